"""`rank`: score a pool of models by several metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
from jax.typing import ArrayLike

from jaxte._progress import Progress
from jaxte.metrics import DEFAULT_METRICS, Metric, MetricFunction
from jaxte.perturb import Perturbation
from jaxte.ranking.assembly import assembled
from jaxte.ranking.measure import measure
from jaxte.ranking.result import Ranking

__all__ = ["rank"]


def rank(
    features: Mapping[str, Any],
    targets: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    metrics: str | Metric | MetricFunction | Sequence[Any] = DEFAULT_METRICS,
    perturb: str | Perturbation | None = None,
    precision: str = "auto",
    progress: bool | Progress = False,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    normalize: str = "sum",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    memory_limit: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    history: Any = None,
    layers: str | None = None,
    permutations: int = 0,
    intervals: bool | Literal["auto"] = False,
    seed: int = 0,
) -> Ranking:
    r"""Score a pool of models by several metrics, compiled once per bucket of widths and metric.

    .. math:: \text{score}_{m} = \text{metric}(X_m, y), \quad X_m \in \mathbb R^{n \times d_m}

    A model that cannot be scored (NaN features, wrong length, too few classes) gets a status and
    never stops the others.

    Args:
        features: model name -> features [n, d]: NumPy, JAX or anything with ``__array__``, of
            float16, bfloat16, float32 or float64; widths may differ. Or what is streamed: the
            path of an .npy file or of a directory of shards, batches [b, d] or (features,
            labels) as a list, an iterable or a function that returns an iterator, an iterator
            (for metrics that read them once), or the `jaxte.moments.Moments` of the samples. Or a
            `jaxte.store.FeatureStore`, or its path (see ``layers``). Or a mapping of "features"
            and, for metrics that read them, "logits" or "probabilities" [n, z] of the model's own
            head, which stores may hold too, and "layers": layer -> features [n, d], of which
            "features" are by default the last. The ridge probe joins them (`jaxte.join_layers`),
            which tells most; other metrics read "features" alone.
        targets: classes [n], as integers of any size, booleans or texts; or float targets [n] or
            [n, k] for regression, or rows [n, k] of 0 and 1 for several labels at once (metrics
            that know regression only); or model name -> targets where rows differ between models;
            or None where the labels come with the batches, or lie in the stores, or where no
            metric reads any.
        metrics: names from ``jaxte.metrics.REGISTRY`` in any case, `jaxte.metrics.Metric`
            records, or any functions of their signature. Of the default ones a regression takes
            those that know it.
        perturb: perturbs every model's features first: a name from
            ``jaxte.perturb.PERTURBATIONS`` or a function; "pca" is the control for the others.
        precision: "auto" (float64 where it is fast), "float32" or "float64"; the global x64 flag
            of JAX is left alone.
        progress: True for a progress bar, or a function (done, total, label) of models, and of
            rows in each pass over a streamed one; total is None while it is not known.
        num_classes: C, if not all classes occur.
        weights: [n] sample weights >= 0, shared by all models.
        normalize: how the terms of a score that has several are brought together over the pool:
            "sum" as it is published (FaCe's as they are, those of NCTI, ETran and TVT min-max
            normalised), or "minmax", "zscore" or "rank" for all, see `jaxte.metrics.combine`,
            also for what one more model changes. The raw terms are always kept.
        options: metric name -> its own keyword options.
        memory_limit: bytes that the models or the batches under way may take. What is larger,
            and no wider than long, is streamed. None: 1 GiB, or for models on an accelerator most
            of the memory that it has free.
        mesh: devices that share the work, with an axis "samples", over which the rows of every
            model are cut, an axis "models", or both. Where it spans several processes
            (`jax.distributed`), each gives its own rows and all get the same `Ranking`.
        history: accuracies that models of these names reached on other data sets: a table with
            columns ``model, dataset, accuracy`` in any form that `jaxte.evaluate.evaluate` takes
            (leave the data at hand out of it). It becomes a column "history", the mean place from
            0 to 1, and a third of what makes the recommended order (`Ranking.order()`).
        layers: what becomes of a model of several layers, that is, of one that brings "layers",
            of a store, and of inputs that are named "model@layer" (a note says so; to keep these
            apart use other names): "each" is ranked by itself, as "model@layer"; or they are
            "joined", as above; or the "best" of their scores or the "mean" is that of the model,
            of permuted labels likewise, so that many layers to choose from are no advantage in
            `Ranking.chance`. None: "each" of a store and of inputs of such names, but "joined" of
            a model that brings "layers".
        permutations: so many times the targets are permuted, the same way for all models, and
            scored again: `Ranking.chance` then says what each score is without any signal. 200
            tell p below 0.01. Streams are read again for it, as often as their metrics ask for and
            memory wants; of one that can be had only once it is not known.
        intervals: whether to tell how far each score would be another on new samples from the same
            population (`Ranking.interval`), and which model leads there (`Ranking.p_best`), from
            one gradient of each score, or 20 scores without a part of the rows, as of streams;
            "auto": of the metric that decides, where that is cheap.
        seed: of the permutations, and of the draws behind `Ranking.p_best`.

    Returns:
        `Ranking`.

    Raises:
        InputError: if the call makes no sense, or no model at all can be scored.

    References: the metrics' own; batching is ours.

    Example:
        >>> import jax, jaxte
        >>> x = jax.random.normal(jax.random.key(0), (90, 8))
        >>> y = jax.numpy.arange(90) % 3
        >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)[:, :5]}
        >>> jaxte.rank(models, y, metrics="logme").order("logme")
        ['sighted', 'blind']
    """
    measured = measure(
        features, targets, metrics=metrics, perturb=perturb, precision=precision,
        progress=progress, num_classes=num_classes, weights=weights, normalize=normalize,
        options=options, memory_limit=memory_limit, mesh=mesh, history=history, layers=layers,
        permutations=permutations, intervals=intervals, seed=seed,
    )  # fmt: skip
    return assembled(measured)
