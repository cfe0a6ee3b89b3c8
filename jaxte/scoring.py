"""`rank`: score a pool of models by several metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxte import _inputs, _notes, _options, pool, streaming
from jaxte._blocks import check_weights
from jaxte._inputs import InputError
from jaxte._mesh import Layout, agree
from jaxte._precision import precision_context
from jaxte.metrics import Metric
from jaxte.ranking import Ranking
from jaxte.store._given import by_layer

__all__ = ["rank"]

_GIGABYTE = 1 << 30

Progress = Callable[[int, int | None, str], None]


def rank(
    features: Mapping[str, Any],
    targets: ArrayLike | Mapping[str, ArrayLike] | None = None,
    *,
    metrics: str | Sequence[str] = ("logme", "sfda", "face"),
    perturb: str | Callable[..., Any] | None = None,
    precision: str = "auto",
    progress: bool | Progress = False,
    num_classes: int | None = None,
    weights: ArrayLike | None = None,
    normalize: str = "sum",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    memory_limit: int = _GIGABYTE,
    mesh: jax.sharding.Mesh | None = None,
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
            (for metrics that look once), or the `jaxte.moments.Moments` of the samples. Or a
            `jaxte.store.FeatureStore`, or its path: one of several layers is ranked as
            "model@layer" each.
        targets: integer classes [n], or float targets [n] or [n, k] for regression (metrics that
            know regression only); or model name -> targets where rows differ between models;
            or None where the labels come with the batches, or lie in the stores.
        metrics: names from ``jaxte.metrics.REGISTRY``.
        perturb: perturbs every model's features first: a name from
            ``jaxte.perturb.PERTURBATIONS`` or a function; "pca" is the control for the others.
        precision: "auto" (float64 where it is fast), "float32" or "float64"; the global x64 flag
            of JAX is left alone.
        progress: True for a progress bar, or a function (done, total, label) of models, and of
            rows in each pass over a streamed one; total is None while it is not known.
        num_classes: C, if not all classes occur.
        weights: [n] sample weights >= 0, shared by all models.
        normalize: how the terms of a metric that is a sum (FaCe) are brought together over the
            pool: "sum" (as they are), "minmax" or "zscore". The raw terms are always kept.
        options: metric name -> its own keyword options.
        memory_limit: bytes that a slice of a bucket, or the batches under way, may take. What is
            larger, and no wider than long, is streamed.
        mesh: devices that share the work, with an axis "samples", over which the rows of every
            model are cut, an axis "models", or both. Where it spans several processes
            (`jax.distributed`), each gives its own rows and all get the same `Ranking`.

    Returns:
        `Ranking`.

    Raises:
        InputError: if the call makes no sense, or no model at all can be scored.

    Source: the metrics' own; batching is ours.

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
    _options.check_names(features)
    chosen, options, perturb, memory_limit, layout = _options.checked(
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
    )
    features, targets = by_layer(features, targets)
    names = tuple(str(name) for name in features)

    reading = partial(jax.enable_x64, jnp.result_type(float) == jnp.float64)  # as the caller's
    with precision_context(precision):
        whole = "mesh" if mesh is not None else "perturb" if perturb is not None else ""
        try:
            candidates, streams, problems = _sorted_out(
                features, targets, weights, num_classes, memory_limit, whole
            )
        except InputError as error:
            if jax.process_count() == 1 or layout is None:
                raise
            # the other processes wait for this one's word on every model
            candidates, streams, problems = [], [], dict.fromkeys(names, str(error))
        labelled: list[pool.Candidate | streaming.Stream] = [*candidates]
        labelled += [stream for stream in streams if stream.targets is not None]
        _check_task(labelled, chosen)
        classes = _class_count(labelled, num_classes)
        rows = None
        if layout is not None:
            candidates, rows, classes = _agreed(layout, names, candidates, problems, classes)
        if not candidates and not streams:
            raise _none_left(problems)
        with _reporter(progress) as report:
            task = pool.Task(chosen, options, classes, perturb, layout)
            found = _score_all(candidates, rows, task, memory_limit, report)
            streamed = streaming.score_all(
                streams, task, num_classes, memory_limit, report, reading
            )
        problems |= streamed.problems
        if not candidates and len(streamed.problems) == len(streams):
            raise _none_left(problems)
        classes = streamed.num_classes if classes is None else classes
        computed_in = str(jnp.zeros(()).dtype)

    scores: dict[tuple[str, str], float] = {}
    statuses: dict[tuple[str, str], str] = {}
    terms: dict[tuple[str, str], Mapping[str, float]] = {}
    notes: list[str] = []
    for metric in chosen:
        parts = found[metric.name] | streamed.parts[metric.name]
        combined = _combined(metric, parts, normalize)
        for name in names:
            key = (name, metric.name)
            scores[key] = combined.get(name, math.nan)
            reason = problems.get(name) or streamed.reasons.get(key)
            statuses[key] = reason or _verdict(metric, scores[key])
            if statuses[key] == "ok" and metric.terms:
                terms[key] = {term: parts[name][term] for term in metric.terms}
        notes += _notes.notes(metric, parts, combined, classes, computed_in)
    meta = {
        "precision": computed_in,
        "num_classes": classes,
        "perturb": None if perturb is None else _name_of(perturb),
        "normalize": normalize,
        "options": {name: dict(value) for name, value in options.items()},
        "seconds": time.perf_counter() - started,
        "device": jax.devices()[0].device_kind,
        "devices": 1 if mesh is None else mesh.size,
        "jax": jax.__version__,
    }
    return Ranking(
        models=names,
        metrics=tuple(metric.name for metric in chosen),
        notes=tuple(notes),
        meta=MappingProxyType(meta),
        _scores=scores,
        _statuses=statuses,
        _terms=terms,
    )


def _sorted_out(
    features: Mapping[str, Any],
    targets: Any,
    weights: Any,
    num_classes: int | None,
    memory_limit: int,
    whole: str,
) -> tuple[list[pool.Candidate], list[streaming.Stream], dict[str, str]]:
    """The models that can be scored in memory or streamed, and for the others why not."""
    candidates, streams, problems = [], [], {}
    several = jax.process_count() == 1  # the rows of one process may well be of one class
    weights = None if weights is None else np.asarray(weights, np.float64)
    shared = None if targets is None or isinstance(targets, Mapping) else _array(targets)
    if shared is not None:
        rows = len(shared) if shared.ndim else 0
        check_weights(weights, rows)
        _inputs.check_targets(shared, rows, num_classes, weights, several=several)
    for name, given in features.items():
        try:
            if isinstance(given, InputError):
                raise given
            array, own = streaming.prepared(given, memory_limit, whole)
            if shared is not None:
                own = shared
            elif targets is not None and name in targets:
                own = _array(targets[name])
            if isinstance(array, streaming.STREAMED):
                streams.append(streaming.Stream(str(name), array, own, weights))
                continue
            if own is None:
                raise InputError("targets name no entry for this model")
            n = _inputs.check_features(array, weights, None)
            _inputs.check_targets(own, n, num_classes, weights, several=several)
        except (InputError, OSError, TypeError, ValueError) as error:
            problems[str(name)] = str(error)
        else:
            candidates.append(pool.Candidate(str(name), array, own, weights))
    return candidates, streams, problems


def _none_left(problems: Mapping[str, str]) -> InputError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in problems.items())
    return InputError(f"no model can be scored. {reasons}")


def _agreed(
    layout: Layout,
    names: Sequence[str],
    candidates: Sequence[pool.Candidate],
    problems: dict[str, str],
    num_classes: int | None,
) -> tuple[list[pool.Candidate], dict[str, int], int | None]:
    """The candidates that every process can score, the rows each is padded to, and C."""
    own = {candidate.name: candidate for candidate in candidates}
    shapes = [np.shape(own[name].features) if name in own else (0, 0) for name in names]
    found = agree(names, [n for n, _ in shapes], [d for _, d in shapes], num_classes)
    for name, process in zip(names, found.blame, strict=True):
        if process is not None:
            problems.setdefault(name, f"process {process} cannot score it: see its own ranking")
    kept = [own[name] for name, n in zip(names, found.rows, strict=True) if n]
    rows = {name: layout.padded(n) for name, n in zip(names, found.rows, strict=True) if n}
    return kept, rows, found.num_classes


def _array(targets: Any) -> np.ndarray:
    try:
        return np.asarray(targets)
    except ValueError as error:
        raise InputError(f"targets are no rectangular array: {error}") from None


def _check_task(
    candidates: Sequence[pool.Candidate | streaming.Stream], metrics: Sequence[Metric]
) -> None:
    if all(_inputs.is_classification(c.targets) for c in candidates):
        return
    unable = [metric.name for metric in metrics if "regression" not in metric.tasks]
    if unable:
        raise InputError(
            f"targets are floats, which means regression, but {', '.join(unable)} needs classes: "
            "give integer labels, or choose metrics such as logme"
        )


def _class_count(
    candidates: Sequence[pool.Candidate | streaming.Stream], num_classes: int | None
) -> int | None:
    labels = [c.targets for c in candidates if _inputs.is_classification(c.targets)]
    if not labels:
        return None
    if num_classes is not None:
        return int(num_classes)
    weights = candidates[0].weights
    return 1 + max(int(y.max() if weights is None else y[weights > 0].max()) for y in labels)


def _score_all(
    candidates: Sequence[pool.Candidate],
    rows: Mapping[str, int] | None,
    task: pool.Task,
    memory_limit: int,
    report: Progress,
) -> dict[str, dict[str, dict[str, float]]]:
    """Metric -> model -> named parts."""
    found: dict[str, dict[str, dict[str, float]]] = {metric.name: {} for metric in task.metrics}
    if candidates:
        report(0, len(candidates), "compiling")
    results = pool.score(task, candidates, rows, memory_limit=memory_limit)
    for done, (bucket, name, parts) in enumerate(results, 1):
        for metric, values in parts.items():
            found[metric][name] = values
        report(done, len(candidates), f"width {bucket.width}")
    return found


def _combined(
    metric: Metric, parts: Mapping[str, Mapping[str, float]], normalize: str
) -> dict[str, float]:
    """Scores over the pool: as computed, or the sum of terms that are normalised first."""
    if not metric.terms or normalize == "sum":
        return {name: values["score"] for name, values in parts.items()}
    usable = [name for name, values in parts.items() if math.isfinite(values["score"])]
    total = np.zeros(len(usable))
    for term in metric.terms:
        values = np.array([parts[name][term] for name in usable])
        if normalize == "minmax":
            low, width = values.min(initial=np.inf), np.ptp(values) if len(values) else 0.0
        else:
            low, width = (values.mean(), values.std()) if len(values) else (0.0, 0.0)
        # a term that is the same for all says nothing
        total += (values - low) / width if width > 0 else 0.0
    return dict(zip(usable, total.tolist(), strict=True))


def _verdict(metric: Metric, score: float) -> str:
    if math.isfinite(score):
        return "ok"
    return f"{metric.name} has no finite value on these features (singular or degenerate)"


@contextmanager
def _reporter(progress: bool | Progress) -> Iterator[Progress]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda done, total, label: None
    else:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("scoring")

            def update(done: int, total: int | None, label: str) -> None:
                bar.tasks[0].total = total  # update() takes None for no change
                bar.update(task, completed=done, description=label)

            yield update


def _name_of(function: Callable[..., Any]) -> str:
    inner = getattr(function, "func", function)  # of a functools.partial
    name = getattr(inner, "__name__", type(inner).__name__)
    keywords = getattr(function, "keywords", None) or {}
    return name + "".join(f" {key}={value}" for key, value in keywords.items())
