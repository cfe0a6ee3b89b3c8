"""`rank`: score a pool of models by several metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxte.errors import InputError, said
from jaxte.intake import Labels, as_labels, checks, class_names, listed
from jaxte.metrics import Metric
from jaxte.ranking import pool, streaming
from jaxte.ranking.inputs import by_layer
from jaxte.ranking.notes import notes as notes_on
from jaxte.ranking.notes import verdict
from jaxte.ranking.options import check_names, checked
from jaxte.ranking.result import Ranking, are_tied
from jaxte.runtime.devices import device_of
from jaxte.runtime.mesh import Layout, agree
from jaxte.runtime.precision import precision_context

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
        targets: classes [n], as integers of any size, booleans or texts; or float targets [n] or
            [n, k] for regression, or rows [n, k] of 0 and 1 for several labels at once (metrics
            that know regression only); or model name -> targets where rows differ between models;
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
    check_names(features)
    chosen, options, perturb, memory_limit, layout = checked(
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
    device = device_of(*features.values(), mesh=mesh)
    with precision_context(precision, device):
        whole = "mesh" if mesh is not None else "perturb" if perturb is not None else ""
        try:
            candidates, streams, problems, labels = _sorted_out(
                features, targets, weights, num_classes, memory_limit, whole
            )
        except InputError as error:
            if jax.process_count() == 1 or layout is None:
                raise
            # the other processes wait for this one's word on every model
            candidates, streams, problems = [], [], dict.fromkeys(names, str(error))
            labels = {}
        problems |= _of_another_task(labels, chosen)
        candidates = [one for one in candidates if one.name not in problems]
        streams = [one for one in streams if one.name not in problems]
        rows = None
        if layout is not None:
            candidates, rows = _agreed(layout, names, candidates, problems, labels)
        numbered = [one.classes for one in labels.values() if one.classes is not None]
        classes: Sequence[Any] | None = max(numbered, key=len, default=None)
        if not candidates and not streams:
            raise _none_left(problems)
        with _reporter(progress) as report:
            number = None if classes is None else len(classes)
            task = pool.Task(chosen, options, number, perturb, layout)
            found = _score_all(candidates, rows, task, memory_limit, report, problems)
            streamed = streaming.score_all(
                streams, task, num_classes, memory_limit, report, reading
            )
        problems |= streamed.problems
        if len(problems) == len(names):
            raise _none_left(problems)
        classes = streamed.classes if classes is None else classes
        number = None if classes is None else len(classes)
        computed_in = str(jnp.zeros(()).dtype)

    scores: dict[tuple[str, str], float] = {}
    statuses: dict[tuple[str, str], str] = {}
    terms: dict[tuple[str, str], Mapping[str, float]] = {}
    named = None if classes is None else class_names(classes)
    notes = [] if named is None else [f"{len(named)} classes: {listed(named)}"]
    for metric in chosen:
        parts = found[metric.name] | streamed.parts[metric.name]
        parts = {name: parts[name] for name in names if name in parts}  # not as they were ready
        combined = _combined(metric, parts, normalize, computed_in)
        for name in names:
            key = (name, metric.name)
            scores[key] = combined.get(name, math.nan)
            reason = problems.get(name) or streamed.reasons.get(key)
            statuses[key] = reason or verdict(metric, parts.get(name, {}), scores[key])
            if statuses[key] == "ok" and metric.terms:
                terms[key] = {term: parts[name][term] for term in metric.terms}
        notes += notes_on(metric, parts, combined, number, computed_in)
    meta = {
        "precision": computed_in,
        "num_classes": number if num_classes is None or number is None else int(num_classes),
        "class_names": named,
        "perturb": None if perturb is None else _name_of(perturb),
        "normalize": normalize,
        "options": {name: dict(value) for name, value in options.items()},
        "seconds": time.perf_counter() - started,
        "device": device.device_kind,
        "devices": 1 if mesh is None else mesh.size,
        "jax": jax.__version__,
    }
    return Ranking(
        models=names,
        metrics=tuple(metric.name for metric in chosen),
        notes=tuple(notes),
        meta=meta,
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
) -> tuple[list[pool.Candidate], list[streaming.Stream], dict[str, str], dict[str, Labels]]:
    """The models that can be scored in memory or streamed, for the others why not, and labels."""
    candidates, streams, problems, labels = [], [], {}, {}
    several = jax.process_count() == 1  # the rows of one process may well be of one class
    num_classes = checks.check_num_classes(num_classes)
    weights = None if weights is None else np.asarray(checks.check_weights(weights, None))

    def clean(values: Any) -> Labels:
        return as_labels(values, num_classes=num_classes, weights=weights)

    shared = None if targets is None or isinstance(targets, Mapping) else clean(targets)
    if shared is not None:
        if weights is not None:
            checks.check_weights(weights, len(shared.values))
        checks.check_labels(shared, len(shared.values), weights, whole=several)
    for key, value in features.items():
        name = str(key)
        try:
            if isinstance(value, InputError):
                raise value
            array, own = streaming.prepared(value, memory_limit, whole)
            known = shared
            if known is None and ((targets is not None and key in targets) or own is not None):
                known = clean(targets[key] if targets is not None and key in targets else own)
            if isinstance(array, streaming.STREAMED):
                ids = None if known is None else known.values
                streams.append(streaming.Stream(name, array, ids, weights))
            elif known is None:
                raise InputError("targets name no entry for this model")
            else:
                array, _ = checks.check_features(array, weights)
                checks.check_labels(known, len(array), weights, whole=several)
                candidates.append(pool.Candidate(name, array, known.values, weights))
        except Exception as error:  # one bad model never stops the others
            problems[name] = said(error)
        else:
            if known is not None:
                labels[name] = known
    return candidates, streams, problems, labels


def _none_left(problems: Mapping[str, str]) -> InputError:
    by_reason: dict[str, list[str]] = {}
    for name, reason in problems.items():
        by_reason.setdefault(reason, []).append(name)
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    return InputError(f"no model can be scored. {reasons}")


def _agreed(
    layout: Layout,
    names: Sequence[str],
    candidates: Sequence[pool.Candidate],
    problems: dict[str, str],
    labels: dict[str, Labels],
) -> tuple[list[pool.Candidate], dict[str, int]]:
    """The candidates that every process can score, with classes numbered alike, and their rows.

    Rows of a model that the processes are to fill up to.
    """
    own = {candidate.name: candidate for candidate in candidates}
    shapes = [np.shape(own[name].features) if name in own else (0, 0) for name in names]
    classes = {
        name: None if known.classes is None else list(known.classes)
        for name, known in labels.items()
    }
    found = agree(names, [n for n, _ in shapes], [d for _, d in shapes], classes)
    for name, process in zip(names, found.failed_on, strict=True):
        if process is not None:
            problems.setdefault(name, f"process {process} cannot score it: see its own ranking")
    for name, union in found.classes.items():
        known = labels.get(name)
        if known is None or known.classes is None or list(known.classes) == union:
            continue
        numbers = {one: number for number, one in enumerate(union)}
        places = np.array([numbers[one] for one in known.classes], np.int32)
        labels[name] = Labels(places[known.values], union)
        if name in own:
            own[name] = replace(own[name], targets=labels[name].values)
    kept = [own[name] for name, n in zip(names, found.rows, strict=True) if n]
    rows = {name: layout.padded(n) for name, n in zip(names, found.rows, strict=True) if n}
    return kept, rows


def _of_another_task(labels: Mapping[str, Labels], metrics: Sequence[Metric]) -> dict[str, str]:
    """Models that cannot be scored together with the others, and why.

    Raises:
        InputError: if that is so of all of them.
    """
    unable = [metric.name for metric in metrics if "regression" not in metric.tasks]
    targets = {name: known for name, known in labels.items() if known.classes is None}
    if not targets or not (unable or len(targets) < len(labels)):
        return {}
    if unable:
        who = ", ".join(unable)
        reasons = {name: checks.needs_classes(one, who) for name, one in targets.items()}
        if len(targets) == len(labels):
            raise InputError(next(iter(reasons.values())))
        return reasons
    reason = "its targets are numbers, but other models have classes: rank them by a call each"
    return dict.fromkeys(targets, reason)


def _score_all(
    candidates: Sequence[pool.Candidate],
    rows: Mapping[str, int] | None,
    task: pool.Task,
    memory_limit: int,
    report: Progress,
    problems: dict[str, str],
) -> dict[str, dict[str, dict[str, float]]]:
    """Metric -> model -> named parts; models that cannot be scored are added to the problems."""
    found: dict[str, dict[str, dict[str, float]]] = {metric.name: {} for metric in task.metrics}
    if candidates:
        report(0, len(candidates), "compiling")
    # closed here: an error's traceback would keep it, and what it has under way, alive
    with closing(pool.score(task, candidates, rows, memory_limit=memory_limit)) as results:
        for done, (bucket, name, parts) in enumerate(results, 1):
            if isinstance(parts, Exception):
                problems[name] = said(parts)
            else:
                for metric, values in parts.items():
                    found[metric][name] = values
            report(done, len(candidates), f"width {bucket.width}")
    return found


def _combined(
    metric: Metric, parts: Mapping[str, Mapping[str, float]], normalize: str, precision: str
) -> dict[str, float]:
    """Scores over the pool: as computed, or the sum of terms that are normalised first."""
    if not metric.terms or normalize == "sum":
        return {name: values["score"] for name, values in parts.items()}
    usable = [name for name, values in parts.items() if math.isfinite(values["score"])]
    total = np.zeros(len(usable))
    if not usable:
        return {}
    for term in metric.terms:
        values = np.array([parts[name][term] for name in usable])
        if normalize == "minmax":
            low, width = values.min(), np.ptp(values)
        else:
            low, width = values.mean(), values.std()
        # a term that is the same for all, but for rounding, says nothing
        same = are_tied(values.min(), values.max(), precision)
        total += 0.0 if same else (values - low) / width
    return dict(zip(usable, total.tolist(), strict=True))


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
