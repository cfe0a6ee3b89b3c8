"""`rank`: score a pool of models by several metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxte._progress import Progress, reporter
from jaxte.errors import InputError
from jaxte.intake.checks import choose
from jaxte.metrics import DEFAULT_METRICS, Metric, MetricFunction
from jaxte.perturb import Perturbation
from jaxte.ranking import pool, streaming
from jaxte.ranking.agreement import agreed
from jaxte.ranking.assembly import assembled, choices
from jaxte.ranking.influence import influences
from jaxte.ranking.inputs import (
    Candidate,
    Resolved,
    none_left,
    of_another_task,
    resolve,
)
from jaxte.ranking.memory import Limits, limits_of
from jaxte.ranking.options import RankOptions, check_names, checked
from jaxte.ranking.outcomes import Outcomes
from jaxte.ranking.permutations import null_outputs
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.result import Ranking
from jaxte.ranking.stores import expand_stores
from jaxte.ranking.verdict import past_places
from jaxte.runtime.devices import device_of
from jaxte.runtime.precision import precision_context

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
    layers: str = "each",
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
            records, or any functions of their signature.
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
        layers: what becomes of a store of several layers: "each" is ranked by itself, as
            "model@layer", or they are "joined", as if the model brought "layers"; and so are
            other models of such names.
        permutations: so many times the targets are dealt anew to the rows, the same way for all
            models, and scored again: `Ranking.chance` then says what each score is without any
            signal. 200 tell p below 0.01. Of models that are streamed it is not known.
        intervals: whether to tell how far each score would be another on other rows of the kind
            (`Ranking.interval`), and which model leads there (`Ranking.p_best`), from one gradient
            of each score; "auto": of the metric that decides, where that is cheap. Of models that
            are streamed it is not known.
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
    started = time.perf_counter()
    if not isinstance(features, Mapping) or not features:
        raise InputError("features must be a mapping of at least one model name to its features")
    check_names(features)
    asked = checked(
        metrics,
        options=options,
        perturb=perturb,
        precision=precision,
        progress=progress,
        num_classes=num_classes,
        weights=weights,
        normalize=normalize,
        memory_limit=memory_limit,
        mesh=mesh,
        permutations=permutations,
        intervals=intervals,
        seed=seed,
    )
    choose("layers", layers, ("each", "joined"))
    models, targets = expand_stores(features, targets, joined=layers == "joined")
    names = tuple(map(str, models))
    past = None if history is None else past_places(history, names)
    reading = partial(jax.enable_x64, jnp.result_type(float) == jnp.float64)  # as the caller's
    device = device_of(*models.values(), mesh=mesh)
    limits = limits_of(asked.memory_limit, device, 1 if mesh is None else mesh.size)
    with (
        precision_context(precision, device),
        reporter(progress, "scoring", unit="", always=True) as report,
    ):
        resolved, rows = _resolved(models, targets, weights, num_classes, asked, limits)
        asked = asked.settled(sum(pool.operations(one) for one in resolved.candidates))
        classes = resolved.classes
        number = None if classes is None else len(classes)
        plan = ScoringPlan(asked.metrics, asked.options, number, asked.perturb, asked.layout)
        outcomes = Outcomes(problems=resolved.problems, classes=classes)
        _score_in_memory(resolved, rows, plan, limits.slices, report, outcomes)
        _score_again(resolved.candidates, plan, asked, report, outcomes)
        streaming.score_all(
            resolved.streams, plan, num_classes, limits.batches, report, reading, outcomes
        )
        if len(outcomes.problems) == len(names):
            raise none_left(outcomes.problems)
        computed_in = str(jnp.zeros(()).dtype)
    meta = {
        "precision": computed_in,
        **choices(asked, normalize, num_classes, outcomes.classes),
        "seconds": time.perf_counter() - started,
        "device": device.device_kind,
        "devices": 1 if mesh is None else mesh.size,
        "jax": jax.__version__,
    }
    weighted = weights is not None
    layered = [one.name for one in resolved.candidates if one.joined is not None]
    return assembled(names, asked.metrics, outcomes, meta, past, layered, weighted=weighted)


def _resolved(
    models: Mapping[str, Any],
    targets: Any,
    weights: Any,
    num_classes: int | None,
    asked: RankOptions,
    limits: Limits,
) -> tuple[Resolved, Mapping[str, int] | None]:
    """The models that can be scored, and on several processes the rows that each fills up to."""
    whole = "mesh" if asked.layout is not None else "perturb" if asked.perturb is not None else ""
    try:
        resolved = resolve(
            models,
            targets,
            weights,
            num_classes,
            limits,
            whole,
            outputs=asked.read_outputs,
            readers=[metric.name for metric in asked.metrics if not metric.label_free],
        )
    except InputError as error:
        if jax.process_count() == 1 or asked.layout is None:
            raise
        # the other processes wait for this one's word on every model
        resolved = Resolved(problems=dict.fromkeys(map(str, models), str(error)))
    resolved.drop(of_another_task(resolved.labels, asked.metrics))
    rows = None
    if asked.layout is not None:
        rows = agreed(asked.layout, tuple(map(str, models)), resolved)
    if not resolved.candidates and not resolved.streams:
        raise none_left(resolved.problems)
    return resolved, rows


def _score_in_memory(
    resolved: Resolved,
    rows: Mapping[str, int] | None,
    plan: ScoringPlan,
    memory_limit: int,
    report: Progress,
    outcomes: Outcomes,
) -> None:
    for one in resolved.candidates:
        reasons = plan.reasons(one.source is not None, problem=one.problem)
        outcomes.reasons |= {(one.name, metric): why for metric, why in reasons.items()}
    runs = _runs(resolved.candidates, plan)
    total, done = sum(len(candidates) for _, candidates in runs), 0
    if total:
        report(0, total, "compiling")
    for own, candidates in runs:
        # closed here: an error's traceback would keep it, and what it has under way, alive
        with closing(pool.score(own, candidates, rows, memory_limit=memory_limit)) as results:
            for bucket, name, outputs in results:
                outcomes.add(name, outputs)
                done += 1
                report(done, total, f"width {bucket.width}")


def _score_again(
    candidates: Sequence[Candidate],
    plan: ScoringPlan,
    asked: RankOptions,
    report: Progress,
    outcomes: Outcomes,
) -> None:
    """With permuted targets, and by how much each row counts, what was scored."""
    if not (asked.permutations or asked.intervals):
        return
    runs = _runs(candidates, plan)
    total, done = sum(len(models) for _, models in runs), 0
    label = "permutations" if asked.permutations else "intervals"
    for own, models in runs:
        for one in models:
            report(done, total, label)
            scored = [m for m in own.metrics if one.name in outcomes.outputs.get(m.name, {})]
            if asked.permutations:
                again = replace(own, metrics=tuple(scored))
                nulls = null_outputs(again, one, asked.permutations, asked.seed)
                outcomes.add_repeated(outcomes.nulls, one.name, nulls)
            if asked.intervals:
                again = replace(own, metrics=tuple(m for m in scored if m in asked.intervals))
                rows = influences(again, one, asked.seed)
                outcomes.add_repeated(outcomes.influences, one.name, rows)
            done += 1
    report(total, total, label)


def _runs(
    candidates: Sequence[Candidate], plan: ScoringPlan
) -> list[tuple[ScoringPlan, list[Candidate]]]:
    """The plan; or where models bring several layers, those metrics apart that join them."""
    if all(one.joined is None for one in candidates):
        return [(plan, list(candidates))]
    split = [[m for m in plan.metrics if m.joins_layers is joins] for joins in (False, True)]
    joined = [
        one if one.joined is None else replace(one, features=one.joined) for one in candidates
    ]
    runs = zip(split, (list(candidates), joined), strict=True)
    return [(replace(plan, metrics=tuple(own)), models) for own, models in runs if own]
