"""What `jaxte.rank` measures of a pool of models, before it is brought together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxte._progress import Progress, reporter
from jaxte.errors import InputError
from jaxte.intake.checks import choose
from jaxte.metrics.options import shortlist
from jaxte.ranking import pool, streaming
from jaxte.ranking.agreement import agreed
from jaxte.ranking.assembly import Measured, choices
from jaxte.ranking.influence import influences
from jaxte.ranking.inputs import (
    Candidate,
    Resolved,
    none_left,
    of_another_task,
    resolve,
)
from jaxte.ranking.layers import FOLDS, LAYERS, arranged, fold
from jaxte.ranking.memory import Limits, limits_of
from jaxte.ranking.notes import on_targets
from jaxte.ranking.options import RankOptions, check_names, checked
from jaxte.ranking.outcomes import Outcomes
from jaxte.ranking.permutations import null_outputs
from jaxte.ranking.plan import ScoringPlan
from jaxte.ranking.stores import expand_stores
from jaxte.ranking.verdict import past_places
from jaxte.report.provenance import made_now
from jaxte.runtime.devices import device_of
from jaxte.runtime.precision import precision_context
from jaxte.statistics import Moments
from jaxte.store.reader import model_and_layer

__all__ = ["measure"]


def measure(
    features: Mapping[str, Any],
    targets: Any,
    *,
    num_classes: int | None = None,
    weights: Any = None,
    precision: str = "auto",
    progress: bool | Progress = False,
    normalize: str = "sum",
    mesh: jax.sharding.Mesh | None = None,
    history: Any = None,
    layers: str | None = None,
    **options: Any,
) -> Measured:
    """Score the models; arguments and errors are those of `jaxte.rank`."""
    started = time.perf_counter()
    check_names(features)
    asked = checked(
        precision=precision, progress=progress, num_classes=num_classes, weights=weights,
        normalize=normalize, mesh=mesh, **options,
    )  # fmt: skip
    if layers is not None:
        choose("layers", layers, LAYERS)
    models, targets = expand_stores(features, targets)
    models, targets, notes = arranged(models, targets, layers, set(features))
    names = scored = tuple(map(str, models))
    if layers in FOLDS:
        names = tuple(dict.fromkeys(model_and_layer(name)[0] for name in scored))
    past = None if history is None else past_places(history, names)
    reading = partial(jax.enable_x64, jnp.result_type(float) == jnp.float64)  # as the caller's
    device = device_of(*models.values(), mesh=mesh)
    limits = limits_of(asked.memory_limit, device, 1 if mesh is None else mesh.size)
    with (
        precision_context(precision, device),
        reporter(progress, "scoring", unit="", always=True) as report,
    ):
        resolved, rows, asked = _resolved(models, targets, weights, num_classes, asked, limits)
        notes += on_targets(resolved.labels.values())
        asked = asked.settled(sum(pool.operations(one) for one in resolved.candidates))
        classes = resolved.classes
        number = None if classes is None else len(classes)
        plan = ScoringPlan(asked.metrics, asked.options, number, asked.perturb, asked.layout)
        outcomes = Outcomes(problems=resolved.problems, classes=classes)
        _score_in_memory(resolved, rows, plan, limits.slices, report, outcomes)
        of_streams = asked._replace(intervals=()) if asked.auto else asked  # they are never cheap
        by_groups = bool(resolved.streams and of_streams.intervals)  # one covariance of all models
        _score_again(resolved.candidates, plan, asked, report, outcomes, by_groups=by_groups)
        streaming.score_all(
            resolved.streams, plan, num_classes, limits.batches, report, reading, outcomes,
            of_streams,
        )  # fmt: skip
        if len(outcomes.problems) == len(scored):
            raise none_left(outcomes.problems)
        notes += _unknown_of_streams(resolved, asked, outcomes)
        computed_in = str(jnp.zeros(()).dtype)
    meta = {
        **made_now(),
        **_data_of(resolved, outcomes, folded=layers in FOLDS),
        "precision": computed_in,
        **choices(asked, normalize, num_classes, outcomes.classes),
        "seconds": time.perf_counter() - started,
        **({} if layers in (None, "each") else {"layers": layers}),
        **({} if weights is None else {"weighted": True}),
        "device": device.device_kind,
        "devices": 1 if mesh is None else mesh.size,
        "jax": jax.__version__,
    }
    notes += _of_other_rows(resolved, meta["n"])
    layered = [one.name for one in resolved.candidates if one.joined is not None]
    if layers in FOLDS:
        outcomes, on_layers = fold(outcomes, scored, layers)
        notes += on_layers
    return Measured(names, asked.metrics, outcomes, meta, past, layered, weights is not None, notes)


def _of_other_rows(resolved: Resolved, rows: Mapping[str, int]) -> list[str]:
    """A note on moments of more or fewer rows than others: of arrays these are refused."""
    if len(set(rows.values())) < 2 or not any(
        isinstance(s.source, Moments) for s in resolved.streams
    ):
        return []
    shown = shortlist([f"{name} {number}" for name, number in rows.items()])
    return [f"These moments are of different numbers of rows ({shown}), so that scores differ."]


def _unknown_of_streams(resolved: Resolved, asked: RankOptions, outcomes: Outcomes) -> list[str]:
    """What is not known of models that were streamed."""
    readers = [metric for metric in asked.metrics if not metric.label_free]
    notes = []
    for what, metrics, known in (
        ("chance is", readers if asked.permutations else (), outcomes.nulls),
        ("intervals are", asked.intervals, outcomes.influences),
    ):
        names = [metric.name for metric in metrics]
        scored, again = (
            {model for name in names for model in own.get(name, ())}
            for own in (outcomes.outputs, known)
        )
        lost: dict[str, list[str]] = {}
        for one in resolved.streams:
            if one.name in scored - again:
                why = outcomes.unrepeated.get(one.name, "of streams intervals=True makes them")
                lost.setdefault(why, []).append(one.name)
        notes += [f"{what} not known of {shortlist(own)}: {why}." for why, own in lost.items()]
    return notes


def _data_of(resolved: Resolved, outcomes: Outcomes, *, folded: bool) -> dict[str, Any]:
    """Rows of each model, and widths; those of layers, where these are ``folded``."""
    sizes = {one.name: one.features.shape for one in resolved.candidates} | outcomes.sizes
    rows = {model_and_layer(m)[0] if folded else m: int(rows) for m, (rows, _) in sizes.items()}
    return {"n": rows, "widths": {name: int(width) for name, (_, width) in sizes.items()}}


def _resolved(
    models: Mapping[str, Any],
    targets: Any,
    weights: Any,
    num_classes: int | None,
    asked: RankOptions,
    limits: Limits,
) -> tuple[Resolved, Mapping[str, int] | None, RankOptions]:
    """The models that can be scored, the rows that each of several processes fills up to, metrics.

    The metrics are those asked for, but by default of the task.
    """
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
    asked = asked.of_task(resolved.labels.values())
    resolved.drop(of_another_task(resolved.labels, asked.metrics))
    rows = None
    if asked.layout is not None:
        rows = agreed(asked.layout, tuple(map(str, models)), resolved)
    if not resolved.candidates and not resolved.streams:
        raise none_left(resolved.problems)
    return resolved, rows, asked


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
    *,
    by_groups: bool,
) -> None:
    """With permuted targets, and by how much each row counts, what was scored."""
    if not (asked.permutations or asked.intervals):
        return
    runs = _runs(candidates, plan)
    total, done = sum(len(models) for _, models in runs), 0
    for own, models in runs:
        for one in models:
            scored = [m for m in own.metrics if one.name in outcomes.outputs.get(m.name, {})]
            if asked.permutations:
                report(done, total, "permutations")
                again = replace(own, metrics=tuple(scored))
                nulls = null_outputs(again, one, asked.permutations, asked.seed)
                outcomes.add_repeated(outcomes.nulls, one.name, nulls)
            if asked.intervals:
                report(done, total, "intervals")
                again = replace(own, metrics=tuple(m for m in scored if m in asked.intervals))
                rows = influences(again, one, asked.seed, by_groups=by_groups)
                outcomes.add_repeated(outcomes.influences, one.name, rows)
            done += 1
    report(total, total, "intervals" if asked.intervals else "permutations")


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
