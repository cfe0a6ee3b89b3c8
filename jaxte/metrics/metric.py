"""What a metric is: one record, from which arrays, streams, meshes and moments are scored."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxte.errors import InputError
from jaxte.intake import checks
from jaxte.intake.checks import short
from jaxte.intake.outputs import SourceOutputs, check_outputs, outputs_of
from jaxte.metrics.combination import MEANS, NORMALISATIONS, combine, tolerance_of
from jaxte.metrics.options import Options, check_flags, jitted, plain, split_options
from jaxte.metrics.passes import Completed, Pass, PassRequest
from jaxte.runtime.programs import all_digits
from jaxte.statistics import SHARED, Moments, Sample, Statistics

__all__ = ["Completed", "Metric", "MetricFunction", "Outputs", "Pass"]

Outputs: TypeAlias = Mapping[str, Array]

# The arguments that all metrics share; what else a function takes are its options.
SIGNATURE = ("features", "labels", "targets", "num_classes", "weights", "num_features")
SOURCE_OUTPUTS = ("logits", "probabilities")
READABLE = (*SHARED, "rows", "all_rows", *SOURCE_OUTPUTS)  # what a metric can need


@runtime_checkable
class MetricFunction(Protocol):
    """What a user may pass as a metric: of the keywords it may leave out what it has no use for."""

    def __call__(self, features: Any, labels: Any, /, *args: Any, **options: Any) -> Any:
        """As any of this package."""


@dataclass(frozen=True, eq=False)
class Metric:
    """One transferability metric.

    Attributes:
        name: its name in the field.
        function: (features, targets, *, num_classes, weights, num_features, ...) -> scalar.
        score: (statistics, completed passes, **options) -> outputs: "score", and what a pool wants
            to know besides: the "gain" in nats over what predicts the targets without features,
            below which an order says nothing. With the route "quick" it may be "unsure"; the model
            is then scored again, by the route "full".
        paper: where it was published.
        confirmed: what its values were compared with: "released code", "own replica" of the formula
            where no sound released code exists, or "" where neither was possible.
        label_free: whether it reads no targets, so that they may be None.
        tasks: "classification", "regression".
        range: least and largest score.
        cost: arithmetic for n samples of width d and C classes, k = min(n, d).
        needs: what it reads: names of `jaxte.statistics.SHARED`, which are made once for all
            metrics; "rows" where they are in memory, "all_rows" if it cannot do without having
            them all at once; "probabilities" of the model's own head (which come of logits, too)
            or its "logits". Or a function of the options that returns the names.
        passes: further passes over the rows, in order; or a function of the options that returns
            them.
        check: (**options) -> raises `InputError` for options that cannot be.
        class_balanced: whether all classes weigh the same, so that class counts known beforehand
            save a pass over streamed samples.
        terms: of a score that is a sum of several outputs, their names and weights.
        normalise: how the terms are brought to one scale over a pool, as published; see
            `jaxte.metrics.combine`. "sum": as they are.
        mean: "sum" of the terms, or "geometric" mean.
        invariances: which of "rotation", "shift", "scale" of the features never change a score;
            the order of samples and the numbering of classes never do.
        variants: the readings of it, the default first.
        from_moments: (moments, **options) -> scalar, where moments suffice; else None.
        smooth: whether leaving out a row does about what the derivative by its weight says, also
            where d > n; if not, intervals leave out groups of rows.
        inflation: (statistics, **options) -> [n] or scalar by which an interval multiplies what
            each row does to the score: what its derivative by the row's weight misses.
        second_order: whether the chance to lead takes off the variance what the jackknife counts
            twice: what the derivatives by the weights of two rows say.
        notes: (model -> outputs, num_classes) -> sentences on what is degenerate in a pool.
        at_ceiling: what to do where scores tie at the upper end of ``range``.
        pads: whether features may have trailing columns of zeros beyond ``num_features``.
        takes_weights: whether weights decide anything.
        any_axes: whether it depends on the axes of the features through `Statistics.ones` alone,
            so that it may be computed in others; so may all that "rotation" does not change.
        joins_layers: whether it reads all layers of a model that brings several, joined, and not
            its features alone.
        call: (sample, num_classes, options) -> score, where it is no function of statistics.
    """

    name: str
    function: Callable[..., Array]
    score: Callable[..., Outputs]
    paper: str = ""
    confirmed: str = ""
    label_free: bool = False
    tasks: tuple[str, ...] = ("classification",)
    range: tuple[float, float] = (float("-inf"), float("inf"))
    cost: str = ""
    needs: frozenset[str] | Callable[..., frozenset[str]] = frozenset({"measured"})
    passes: tuple[Pass, ...] | Callable[..., tuple[Pass, ...]] = ()
    check: Callable[..., Any] | None = None
    class_balanced: bool = False
    terms: Mapping[str, float] = field(default_factory=dict)
    normalise: str = "sum"
    mean: str = "sum"
    invariances: frozenset[str] = frozenset()
    variants: tuple[str, ...] = ()
    from_moments: Callable[..., Array] | None = None
    smooth: bool = True
    inflation: Callable[..., Array] | None = None
    second_order: bool = False
    notes: Callable[..., Sequence[str]] | None = None
    at_ceiling: str = ""
    pads: bool = True
    takes_weights: bool = True
    any_axes: bool = False
    joins_layers: bool = False
    call: Callable[..., float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[^\s,=]+", self.name):
            raise InputError(
                f"the name of a metric is {self.name!r}: give a text without blanks, commas and ="
            )
        if not callable(self.needs):
            unknown = sorted(map(str, set(self.needs) - set(READABLE)))
            if isinstance(self.needs, str) or unknown:
                known = ", ".join(READABLE)
                raise InputError(f"{self.name} needs {short(self.needs)}: give a set of {known}")
            object.__setattr__(self, "needs", frozenset(self.needs))
        checks.choose("normalise", self.normalise, NORMALISATIONS)
        checks.choose("mean", self.mean, MEANS)

    @property
    def moments(self) -> bool:
        """Whether class counts, means and scatter are enough, so that one pass is."""
        return self.from_moments is not None

    @property
    def in_any_axes(self) -> bool:
        """Whether it may be computed in other axes of the features."""
        return self.any_axes or "rotation" in self.invariances

    @property
    def default_variant(self) -> str | None:
        """The variant used unless another is asked for."""
        return self.variants[0] if self.variants else None

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The options that its function takes besides the arguments of all metrics."""
        rest = list(inspect.signature(self.function).parameters.values())[2:]
        shared = (*SIGNATURE, *SOURCE_OUTPUTS)
        own = [one for one in rest if one.name not in shared]
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return {one.name: one for one in own if one.kind in named}

    def all_options(self, own: Options) -> dict[str, Any]:
        """All options: these, and for the others the defaults of the function."""
        empty = inspect.Parameter.empty
        defaults = {k: p.default for k, p in self.parameters.items() if p.default is not empty}
        return {**defaults, **own}

    def checked_options(self, own: Options) -> dict[str, Any]:
        """All options, of Python's own types; raises `InputError` for one that cannot be."""
        options = self.all_options(own)
        check_flags(self.parameters, options)
        if self.check is not None:
            self.check(**options)
        return plain(self.parameters, options)

    def needed(self, options: Options) -> frozenset[str]:
        """What it reads with these options."""
        return self.needs(**self.all_options(options)) if callable(self.needs) else self.needs

    def asked(self, options: Options) -> tuple[Pass, ...]:
        """Its further passes over the rows with these options."""
        passes = self.passes
        return passes(**self.all_options(options)) if callable(passes) else passes

    # --- ways to a score --------------------------------------------------------------------------

    def outputs(
        self,
        features: ArrayLike | None,
        targets: Any,
        num_classes: int | None,
        weights: ArrayLike | None,
        num_features: ArrayLike | None,
        *,
        logits: ArrayLike | None = None,
        probabilities: ArrayLike | None = None,
        **options: Any,
    ) -> Outputs:
        """All outputs for arrays: the body of the public function.

        Of a metric that reads outputs of the model's own head, without ``logits`` and
        ``probabilities`` the first argument is one of them itself.

        Raises:
            InputError: outside jit, for input that cannot be scored.
        """
        options = self.checked_options(options)
        wanted = self.needed(options) & set(SOURCE_OUTPUTS)
        source, advice = outputs_of(logits, probabilities), ""
        if source is not None:
            features, num_features = source.without_features(features), None
        elif wanted:
            advice = (
                f": {self.name} reads its first argument as them, or probabilities= or logits= of "
                "the model's own head beside features"
            )
            if features is None:
                raise InputError(f"there are no outputs of the model's own head{advice}")
        regression, finite = "regression" in self.tasks, source is not None or not wanted
        if self.label_free:  # one target that never varies, so that all scatter is the total
            features, weights = checks.check_features(
                features, weights, num_features, finite=finite
            )
            finite = False
            checks.check_num_classes(num_classes)
            targets, num_classes, regression = np.ones(np.shape(features)[0]), None, True
        clean = checks.check_arguments(
            features, targets, num_classes, weights, num_features, regression=regression,
            finite=finite,  # outputs are looked at as such
        )  # fmt: skip
        if wanted and source is None:
            kind = "probabilities" if "probabilities" in wanted else "logits"
            source = SourceOutputs(**{kind: clean.features}, width=clean.num_features)
            clean = clean._replace(features=source.without_features(None), num_features=None)
        if source is not None:
            rows = np.shape(clean.features)[0]
            source = check_outputs(source, rows, clean.weights, advice=advice)
        static, dynamic = split_options(options)
        return _outputs(Sample(*clean[:4], source), dynamic, self, clean.num_classes, static)

    def evaluate(self, statistics: Statistics, options: Options) -> Outputs:
        """All outputs inside jit, from rows at hand or on the devices of a mesh."""
        steps = self.steps(statistics, options, _directly)
        result: Any = None
        while True:
            try:
                request = steps.send(result)
            except StopIteration as stop:
                outputs: Outputs = stop.value
                return outputs
            one, constants, now = request.chain[-1]
            apply = partial(one.apply, constants, **options)
            result = (
                now.transformed(apply(now.batch())) if one.transform else now.sum_over_rows(apply)
            )

    def steps(
        self,
        statistics: Statistics,
        options: Options,
        call: Callable[..., Any],
    ) -> Generator[PassRequest, Any, Outputs]:
        """The metric step by step: yields the passes that it asks for, is sent their results.

        ``call`` is how its functions are called, as a jitted one where rows go by.
        """
        now = statistics
        chain: tuple[tuple[Pass, Any, Statistics], ...] = ()
        completed: tuple[Completed, ...] = ()
        for one in self.asked(options):
            if one.repeat > 1:
                last = yield from self._repeated(one, now, chain, completed, options, call)
                completed = (*completed, last)
                continue
            result = None
            if now.sample is None and one.instead is not None:
                result = one.instead(now, **options)
            constants = None
            if result is None:
                constants = call(one.prepare, now, completed, options)
                asked = (*chain, (one, constants, now))
                result = yield PassRequest(asked)
                chain = asked if one.transform else chain
            if one.transform:
                now = result
            completed = (*completed, Completed(constants, result))
        outputs: Outputs = call(self.score, statistics, completed, options)
        wanted = ("score", *self.terms)
        if not isinstance(outputs, Mapping) or not set(wanted) <= outputs.keys():
            raise InputError(f"{self.name} returned no mapping with {', '.join(wanted)}")
        return outputs

    def _repeated(
        self,
        one: Pass,
        now: Statistics,
        chain: tuple[tuple[Pass, Any, Statistics], ...],
        completed: tuple[Completed, ...],
        options: Options,
        call: Callable[..., Any],
    ) -> Generator[PassRequest, Any, Completed]:
        """The last of the repetitions of a pass; of rows at hand a loop, which is compiled once."""
        if call is _directly:

            def body(_: Any, result: Any) -> Any:
                constants = one.prepare(now, (*completed, Completed(None, result)), **options)
                return now.sum_over_rows(partial(one.apply, constants, **options))

            return Completed(None, lax.fori_loop(0, one.repeat, body, completed[-1].result))
        seen = completed
        for _ in range(one.repeat):
            constants = call(one.prepare, now, seen, options)
            result = yield PassRequest((*chain, (one, constants, now)))
            seen = (*completed, Completed(constants, result))
        return seen[-1]

    def over_pool(self, outputs: Mapping[str, Any], normalise: str | None = None) -> Any:
        """Scores [m] of the models of a pool, from their outputs [m]; None: as published."""
        how, mean = (self.normalise, self.mean) if normalise is None else (normalise, "sum")
        if not self.terms or (how, mean) == ("sum", "sum"):
            return outputs["score"]
        score, weights = outputs["score"], dict(self.terms)
        terms = {name: outputs[name] for name in weights}
        xp = np if isinstance(score, np.ndarray) else jnp
        rounding = tolerance_of(str(score.dtype))
        valid = xp.isfinite(score)
        return combine(terms, weights, normalise=how, mean=mean, valid=valid, rounding=rounding)

    def outputs_from_moments(self, state: Moments, **options: Any) -> Outputs:
        """All outputs of samples that are known by their moments only.

        Raises:
            InputError: where these moments do not suffice.
        """
        options = self.checked_options(options)
        if state.targets is not None and "regression" not in self.tasks:
            raise InputError(f"{self.name} needs moments of integer labels, not of float targets")
        with state.precision:
            statistics = Statistics.of_moments(state, state.means.shape[1])
            steps = self.steps(statistics, options, jitted)
            try:
                request = next(steps)
            except StopIteration as stop:
                outputs: Outputs = stop.value
                return outputs
        advice = request.chain[-1][0].lacking or "give the samples themselves"
        raise InputError(f"{self.name} reads the samples more than once: {advice}")


def _directly(
    function: Callable[..., Any],
    statistics: Statistics,
    completed: tuple[Completed, ...],
    options: Options,
) -> Any:
    return function(statistics, completed, **options)


@partial(jax.jit, static_argnums=(2, 3, 4))
@all_digits
def _outputs(
    sample: Sample,
    dynamic: Options,
    metric: Metric,
    num_classes: int | None,
    static: tuple[tuple[str, Any], ...],
) -> Outputs:
    statistics = Statistics(sample, num_classes=num_classes)
    return metric.evaluate(statistics, {**dict(static), **dynamic})
