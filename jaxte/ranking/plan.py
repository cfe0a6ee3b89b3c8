"""The programs of a pool: shared statistics first, then one small program per metric.

Each is compiled once for its shapes and kept, so that one more metric compiles nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.metrics import Metric
from jaxte.metrics.metric import SOURCE_OUTPUTS, Pass
from jaxte.metrics.options import split_options
from jaxte.perturb.transform import moved_features
from jaxte.runtime.mesh import MODELS, SAMPLES, Layout
from jaxte.runtime.programs import CPU_COMPILE, FAST_COMPILE, Program
from jaxte.statistics import FACTORISED, OF_REDUCED, SHARED, UNSURE, Measured, Sample, Statistics
from jaxte.statistics.ridge import repays

__all__ = ["Form", "ScoringPlan", "Values"]

PERTURBED = "perturbed"


class Form(NamedTuple):
    """How models come, and how their programs are to be made.

    Attributes:
        stacked: several models at once.
        one_target: whether they share their targets.
        one_weight: whether they share their weights, or have none.
        fast_compile: whether compiling with care would take longer than running.
        platform: of the devices that run it.
    """

    stacked: bool = False
    one_target: bool = True
    one_weight: bool = True
    fast_compile: bool = False
    platform: str = "cpu"


Values = dict[str, Any]  # "sample", and each of `SHARED` once it is made


class ProgramKey(NamedTuple):
    """What a program does: its inputs are those of a `Values` that it ``reads``."""

    makes: str | Metric
    reads: tuple[str, ...]
    route: str
    options: tuple[tuple[str, Any], ...]
    num_classes: int | None
    perturb: Callable[..., Any] | None
    layout: Layout | None
    form: Form


# A program, what it makes, and a function that returns its inputs.
Step: TypeAlias = tuple[Program, str | Metric, Callable[[], tuple[Any, ...]]]


@dataclass(frozen=True)
class ScoringPlan:
    """What is computed of every model of a pool.

    Attributes:
        metrics: the metrics.
        options: metric name -> its own options.
        num_classes: C; None for regression.
        perturb: perturbs the features first, or None.
        layout: the mesh that shares the work, or None.
    """

    metrics: tuple[Metric, ...]
    options: Mapping[str, Mapping[str, Any]]
    num_classes: int | None
    perturb: Callable[..., Any] | None = None
    layout: Layout | None = None

    def run(
        self, values: Values, form: Form, route: str, metrics: Sequence[Metric]
    ) -> dict[str, Any]:
        """Outputs of these metrics by name, or the `Exception` that one of them raised.

        What the metrics share is added to ``values``.
        """
        outputs: dict[str, Any] = {}
        for program, makes, inputs in self._steps(values, form, route, metrics):
            if isinstance(makes, str):
                _add(values, makes, program(*inputs()))
                continue
            try:
                outputs[makes.name] = program(*inputs())
            except Exception as error:
                if jax.process_count() > 1:
                    raise  # the others take the same steps, and would wait for this one
                outputs[makes.name] = error
        return outputs

    def compile_ahead(self, values: Values, form: Form, submit: Callable[..., None]) -> None:
        """Submit the compilation of all programs of a first run, of values that are shapes."""
        for program, makes, inputs in self._steps(
            values, form, self.route(form.platform), self.metrics
        ):
            like = inputs()
            shapes = program.shapes(*like)
            submit(lambda program=program, like=like: program.compiled(*like))
            if isinstance(makes, str):
                _add(values, makes, shapes)

    def needed(self, metric: Metric) -> frozenset[str]:
        """What a metric reads, with its options."""
        return metric.needed(self.options.get(metric.name, {}))

    def passes(self, metric: Metric) -> tuple[Pass, ...]:
        """The further passes of a metric over the rows, with its options."""
        return metric.asked(self.options.get(metric.name, {}))

    def options_of(self, metric: Metric) -> tuple[tuple[tuple[str, Any], ...], dict[str, Any]]:
        """The options of a metric: those that its program is made for, and arrays that it reads."""
        static, dynamic = split_options(metric.all_options(self.options.get(metric.name, {})))
        return static, {name: _as_array(own) for name, own in dynamic.items()}

    def reads_rows(self, metric: Metric) -> bool:
        """Whether a metric reads the rows, where they are in memory."""
        return bool(self.passes(metric) or self.needed(metric) - set(SHARED))

    def reasons(self, has_outputs: bool, problem: str = "") -> dict[str, str]:
        """Metric -> what it needs and a model lacks; ``problem``: that of its head's outputs."""
        reasons = {}
        for metric in self.metrics:
            needed = self.needed(metric)
            if needed & set(SOURCE_OUTPUTS) and not has_outputs:
                reasons[metric.name] = problem or (
                    f"{metric.name} reads the outputs of the model's own head: give a mapping of "
                    "'features' and 'logits' (or 'probabilities'), or a store that holds logits"
                )
            elif self._needs_whole(metric, needed):
                reasons[metric.name] = (
                    f"{metric.name} needs all rows of a model on one device: use a mesh of 'models'"
                )
        return reasons

    def _needs_whole(self, metric: Metric, needed: frozenset[str]) -> bool:
        """Whether it needs all rows on one device, and these are cut over several."""
        cut = self.layout is not None and self.layout.axis is not None
        outputs = bool(needed & set(SOURCE_OUTPUTS)) and not self.passes(metric)
        return cut and ("all_rows" in needed or outputs)

    def route(self, platform: str) -> str:
        """That of a first run, which may leave scores unsure where that saves time."""
        if platform == "cpu":
            return "quick"
        # products of float32 lack digits too often
        return "batched" if jnp.zeros(()).dtype == jnp.float64 else "full"

    def _steps(
        self, values: Values, form: Form, route: str, metrics: Sequence[Metric]
    ) -> Iterator[Step]:
        """Programs in order; the inputs of one are known once those before it have run."""
        if self.perturb is not None and PERTURBED not in values:
            yield self._step(PERTURBED, ("sample",), values, form, "full", ())
        unable = self.reasons(values["sample"].source is not None)
        metrics = [m for m in metrics if m.call is None and m.name not in unable]
        needed = {m: self.needed(m) for m in metrics}
        by_columns, normal, repays = self._routes(values["sample"])
        without_rows = repays and route in UNSURE  # no eigenvectors that these would mend
        tridiagonal = repays and route == "quick"
        shared = {name for names in needed.values() for name in names} - {"reduced"}
        of_reduced = set(OF_REDUCED[0 if by_columns else 1 :])  # metrics read that of columns only
        if tridiagonal and any(names & of_reduced for names in needed.values()):
            shared |= {"reduced"}
        if shared & set(FACTORISED):
            shared |= {"measured", "scatter"} if normal else {"measured"}
        if by_columns and "target_products" in shared:
            shared |= {"scatter"}
        scatter = any("scatter" in n and not self.reads_rows(m) for m, n in needed.items())
        if not (by_columns or scatter):
            shared -= {"scatter"}  # larger than the rows, which do as well
        if "scatter" in shared:
            shared |= {"measured"}
        for name in SHARED:
            if name in shared and name not in values:
                known = [one for one in SHARED[:2] if one in values]
                known += ["reduced"] if tridiagonal and name in OF_REDUCED[1:] else []
                of_moments = normal and name in FACTORISED and (without_rows or name != "ridge")
                of_moments |= name == "target_products"
                if not (of_moments and "scatter" in values):  # else one for all counts of rows
                    known = ["sample", *known]
                yield self._step(name, tuple(known), values, form, route, ())
        for metric, names in needed.items():
            reads = [name for name in SHARED if name in names and name in shared]
            if self.reads_rows(metric):
                reads = ["sample", *reads]
            static, dynamic = self.options_of(metric)
            yield self._step(metric, tuple(reads), values, form, route, static, dynamic)

    def _step(
        self,
        makes: str | Metric,
        reads: tuple[str, ...],
        values: Values,
        form: Form,
        route: str,
        static: tuple[tuple[str, Any], ...],
        dynamic: Mapping[str, Any] | None = None,
    ) -> Step:
        perturb = self.perturb if makes == PERTURBED else None
        if not form.stacked and "sample" not in reads:
            # one program for all shapes of rows; what is shared is products and factors, which
            # are as fast however they are compiled, a metric may have loops of its own
            form = Form(platform=form.platform, fast_compile=isinstance(makes, str))
        key = ProgramKey(makes, reads, route, static, self.num_classes, perturb, self.layout, form)
        with _lock:
            program = _program(key)

        def inputs() -> tuple[Any, ...]:
            shown = {name: values[name] for name in reads}
            if "sample" not in reads and "measured" in reads:
                shown["measured"] = shown["measured"]._replace(residuals=None)
            return shown, dynamic or {}

        return program, makes, inputs

    def _routes(self, sample: Sample) -> tuple[bool, bool, bool]:
        """Whether d x d matrices are made of these rows, normal equations solved, and reduced."""
        n, d = np.shape(sample.features)[-2:]
        on_mesh = self.layout is not None and self.layout.axis is not None
        by_columns = on_mesh or n >= d
        dtype = jnp.zeros(()).dtype
        normal = on_mesh or (by_columns and dtype == jnp.float64)
        return by_columns, normal, repays((d,) if normal else (n, d), dtype)


def _as_array(option: Any) -> Any:
    """An option on the host, but for keys of ``jax.random``, which are nothing to NumPy."""
    is_key = isinstance(option, jax.Array) and jnp.issubdtype(option.dtype, jax.dtypes.prng_key)
    return option if is_key else np.asarray(option)


def _add(values: Values, name: str, made: Any) -> None:
    if name == PERTURBED:
        features, width = made
        values["sample"] = values["sample"]._replace(features=features, num_features=width)
    values[name] = made


# --- making programs ------------------------------------------------------------------------------

_lock = threading.RLock()  # threads must not make two programs of one key, to be compiled twice


@lru_cache(maxsize=512)
def _program(key: ProgramKey) -> Program:
    form, layout = key.form, key.layout

    def one(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        return _made(key, dict(inputs), options)

    if not form.stacked:
        return Program(one, FAST_COMPILE if form.fast_compile else CPU_COMPILE)
    # On a CPU every batched LAPACK call keeps a thread of XLA's pool and waits in it for others:
    # as many at once as there are threads (LogME's and FaCe's on two cores) wait for ever, and
    # so do sums over devices beside one.
    map_models = _in_turn if form.platform == "cpu" else _side_by_side

    def several(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        axes = {name: _axes(form) if name == "sample" else 0 for name in inputs}
        return map_models(lambda own: one(own, options), axes, dict(inputs))

    if layout is None:
        return Program(several)

    def on_each(inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        made = several(inputs, options)
        if isinstance(key.makes, str) or layout.models == 1:
            return made
        return jax.tree.map(lambda part: jax.lax.all_gather(part, MODELS, tiled=True), made)

    specs = {name: _spec(name, layout, form) for name in key.reads}
    return Program(
        jax.shard_map(
            on_each,
            mesh=layout.mesh,
            in_specs=(specs, layout.spec()),
            out_specs=_spec(key.makes, layout, form),
            check_vma=False,
        ),
    )


def _made(key: ProgramKey, inputs: dict[str, Any], options: Mapping[str, Any]) -> Any:
    """What a program makes of one model, inside jit."""
    sample = inputs.pop("sample", None)
    if sample is not None:  # as the precision context says
        dtype = jnp.zeros(()).dtype
        source = jax.tree.map(lambda outputs: outputs.astype(dtype), sample.source)
        sample = sample._replace(features=sample.features.astype(dtype), source=source)
    if key.perturb is not None and key.makes == PERTURBED:
        return moved_features(
            key.perturb,
            sample.features,
            sample.targets,
            num_classes=key.num_classes,
            weights=sample.weights,
            num_features=sample.num_features,
        )
    axis = None if key.layout is None else key.layout.axis
    statistics = Statistics(
        sample, num_classes=key.num_classes, axis=axis, route=key.route, **inputs
    )
    if isinstance(key.makes, str):
        return getattr(statistics, key.makes)
    return key.makes.evaluate(statistics, {**dict(key.options), **options})


def _axes(form: Form) -> Sample:
    """Which parts of a stack of samples have an axis of models: 0, or -1 for none."""
    return Sample(0, -1 if form.one_target else 0, -1 if form.one_weight else 0, 0, 0)


def _spec(makes: str | Metric, layout: Layout, form: Form) -> Any:
    """How an input or a result is spread over the mesh, as a prefix of its tree."""
    models, rows = layout.spec(MODELS), layout.spec(MODELS, SAMPLES)
    if makes == "sample":
        targets = layout.spec(SAMPLES) if form.one_target else rows
        return Sample(rows, targets, rows, models, rows)
    if makes == "measured":
        return Measured(*(models, rows, models, models))  # type: ignore[arg-type]
    if makes == PERTURBED:
        return rows, models
    return models if isinstance(makes, str) else layout.spec()


def _side_by_side(function: Callable[[Any], Any], axes: Any, inputs: Any) -> Any:
    in_axes = jax.tree.map(lambda axis: None if axis < 0 else axis, axes)
    return jax.vmap(function, in_axes=(in_axes,))(inputs)


def _in_turn(function: Callable[[Any], Any], axes: Any, inputs: Any) -> Any:
    each = jax.tree.leaves(
        jax.tree.map(lambda axis, part: jax.tree.map(lambda _: axis, part), axes, inputs)
    )
    leaves, structure = jax.tree.flatten(inputs)
    mapped = [leaf for axis, leaf in zip(each, leaves, strict=True) if axis >= 0]

    def one(own: Sequence[Any]) -> Any:
        rest = iter(own)
        parts = [leaf if axis < 0 else next(rest) for axis, leaf in zip(each, leaves, strict=True)]
        return function(jax.tree.unflatten(structure, parts))

    return jax.lax.map(one, mapped)
