"""`stream`: moments made in the same compiled step as the features, which are never kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte._progress import Progress, reporter
from jaxte.errors import InputError
from jaxte.extraction._batches import Batch, Prepare, pad_rows
from jaxte.extraction._compiled import cached
from jaxte.extraction._evaluation import compare_steps
from jaxte.extraction._forward import VALID, Forward, layers_at, model_named_in_errors
from jaxte.extraction._functions import call_function
from jaxte.extraction._outputs import ALL, OUTPUT, only, output_error
from jaxte.extraction._resumable import ResumableBatches, as_dataset, left_out, of_pair, readable
from jaxte.extraction.models import Model, as_model, log
from jaxte.extraction.targets import Pixels, Targets, level_of
from jaxte.intake import checks
from jaxte.intake.checks import choose
from jaxte.ranking.blocks import LabelCounts, checked
from jaxte.runtime.precision import precision_context
from jaxte.statistics import moments
from jaxte.statistics.measure import Moments
from jaxte.statistics.rows import as_rows

if TYPE_CHECKING:
    from jaxte.data import Dataset

__all__ = ["stream", "streamed"]

_FUNCTIONS = (FunctionType, MethodType, functools.partial, type(jax.jit(lambda: None)))


def stream(
    apply_fn: Any,
    batches: Any,
    *,
    params: Any = None,
    num_classes: int | None = None,
    num_targets: int | None = None,
    class_counts: ArrayLike | None = None,
    precision: str = "auto",
    layers: str | None = None,
    pool: str = "mean",
    variables: Any = None,
    prepare: Prepare | None = None,
    level: str | None = None,
    compute_dtype: str | None = None,
    batch_size: int = 64,
    pixels: float | Sequence[float] | None = None,
    pixel_budget: int | None = None,
    seed: int = 0,
    workers: int = 0,
    progress: bool | Progress = False,
    layout: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Moments:
    r"""The moments of a model's features, without ever keeping the features.

    .. math:: S = \sum_i (f(x_i) - m_{y_i}) (f(x_i) - m_{y_i})^\top

    and the class counts and means, brought up to date in one compiled step with the forward pass
    of each batch: features stay on the device, in memory there is one batch of them. The forward
    pass computes in the model's own precision, the moments in ``precision``.

    `jaxte.rank` takes the result for features: ``jaxte.rank({name: moments}, metrics="logme")``.

    Args:
        apply_fn: inputs -> features [b, d], or (params, inputs) -> features; traced by JAX, so
            without side effects and in inference mode. Or any model that `jaxte.extract` takes.
        batches: (inputs, labels) or (inputs, labels, weights) for each batch; inputs are any
            pytree of arrays with b rows, labels [b] integer classes, or [b] or [b, k] floats. The
            shapes of the first batch are compiled for; shorter ones are filled up. Or what else
            `jaxte.extract` takes: dicts, a `jaxte.data.Dataset`.
        params: weights of the model. Given here they are an argument of the compiled step; what
            ``apply_fn`` closes over may be copied into it, and two models of one architecture
            are then compiled twice.
        num_classes: C, required for integer labels unless ``class_counts`` are given or a data
            set knows it.
        num_targets: k, for float labels; taken from the first batch unless given.
        class_counts: [C] samples of each class in the end, for `face` (see `jaxte.moments.init`);
            a data set of images or texts counts its own.
        precision: of the moments, "auto", "float32" or "float64", as in `jaxte.rank`.
        layers: path of one layer, where ``apply_fn`` is a model.
        pool: as in `jaxte.extract`, like all that follow.
        variables: of a linen module.
        prepare: list of raw examples -> arrays of one shape.
        level: "example", "token" or "dense".
        compute_dtype: of the model's arithmetic.
        batch_size: examples of a data set at once.
        pixels: of label maps.
        pixel_budget: of label maps, instead.
        seed: of the choice of pixels.
        workers: threads that read a data set ahead.
        progress: True for a progress bar, or a function (done, total, name) of examples.
        layout: as in `jaxte.extraction.as_model`.
        on_error: "skip" reads a data set beforehand, and leaves out what cannot be read.

    Returns:
        `jaxte.moments.Moments` of d features, in the units of the features.

    Raises:
        InputError: for outputs that are no matrix or not finite, labels that do not fit, or no
            batches at all.

    References:
        Chan, Golub, LeVeque, The American Statistician 37(3), 1983.

    Example:
        >>> import jax, numpy as np, jaxte
        >>> w = jax.random.normal(jax.random.key(0), (12, 4))
        >>> images, labels = np.ones((10, 2, 6), np.float32), np.arange(10) % 2
        >>> batches = [(images[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)]
        >>> def features(w, x):
        ...     return jax.nn.relu(x.reshape(len(x), -1) @ w)
        >>> state = jaxte.stream(features, batches, params=w, num_classes=2)
        >>> state.means.shape, state.counts.tolist()
        ((2, 4), [5.0, 5.0])
    """
    options: dict[str, Any] = {
        "layers": layers,
        "level": level,
        "compute_dtype": compute_dtype,
        "layout": layout,
    }
    batches = of_pair(batches)
    function, form = None, "layers"
    is_function = params is not None or isinstance(apply_fn, _FUNCTIONS)
    if is_function and all(option is None for option in options.values()):
        function, form = apply_fn, "inputs" if params is None else "params"
        apply, card = functools.partial(_outputs, apply_fn, form), {"kind": "callable"}
        model = Model("apply_fn", apply, ("features",), params, prepare=prepare, card=card)
    else:
        options["level"] = level_of(apply_fn, as_dataset(batches), level)
        variables = params if variables is None else variables
        model = as_model(apply_fn, pool=pool, variables=variables, prepare=prepare, **options)
    if len(model.layers) > 1 or model.layers == (ALL,):
        raise InputError(f"{model.name} has several layers ({', '.join(model.layers)}): choose one")
    states = streamed(
        model, batches, function=function, form=form, num_classes=num_classes,
        num_targets=num_targets, class_counts=class_counts, precision=precision,
        batch_size=batch_size, pixels=Pixels(pixels, pixel_budget, seed), workers=workers,
        progress=progress, on_error=on_error,
    )  # fmt: skip
    return states[model.layers[0]]


def streamed(
    model: Model,
    batches: Any,
    *,
    function: Any = None,
    form: str = "layers",
    num_classes: int | None = None,
    num_targets: int | None = None,
    class_counts: ArrayLike | None = None,
    precision: str = "auto",
    batch_size: int = 64,
    pixels: Pixels | None = None,
    workers: int = 0,
    progress: bool | Progress = False,
    notes: list[str] | None = None,
    on_error: str = "raise",
) -> dict[str, Moments]:
    """The moments of every layer of a model; to ``notes`` goes what a user should know.

    The compiled step lives as long as ``function``, by default that of the model. ``form`` says
    how to call it: with "inputs" or "params" (and inputs) it returns features, else "layers".
    """
    dataset = as_dataset(batches)
    notes = [] if notes is None else notes
    if choose("on_error", on_error, ("raise", "skip")) == "skip":
        dataset, damaged = readable(dataset, workers, progress)
        batches = dataset
        if damaged:
            notes.append(left_out(damaged))
            log.warning("%s: %s", model.name, notes[-1])
    if class_counts is None and dataset is not None and dataset.task == "classification":
        class_counts = _counts(dataset, num_classes)
    if num_classes is None and class_counts is not None:
        num_classes = np.size(class_counts)
    targets = Targets(model.level, dataset, num_classes, pixels or Pixels())
    x64 = jnp.result_type(float) == jnp.float64  # of the caller, and so of the model
    reader = ResumableBatches(batches, model.prepare, batch_size, workers, weighted=True)
    model, source = reader.all_named(model), reader.remaining(())
    function = function or (model.apply if model.traced else _identity)
    with precision_context(precision), reporter(progress, model.name) as report:
        with jax.enable_x64(x64):
            forward = Forward(model, dtype="", logits=False, layout=None, size=reader.size)
        running = _Running(function, form, forward, targets, num_targets, class_counts, x64)
        report(0, reader.total, model.name)
        for batch in _in_precision(source, x64):
            running.add(batch)
            report(running.seen, reader.total, model.name)
        states = running.finish()
    notes += forward.notes
    return states


class _Running:
    """The moments of every layer while batches go by, ``seen`` of their examples so far."""

    def __init__(
        self,
        function: Any,
        form: str,
        forward: Forward,
        targets: Targets,
        num_targets: int | None,
        class_counts: ArrayLike | None,
        x64: bool,
    ) -> None:
        self._function, self._forward, self._targets, self._x64 = function, forward, targets, x64
        self._num_targets, self._class_counts = num_targets, class_counts
        self._layers, self._traced = forward.model.layers, bool(forward.model.traced)
        self._dtype = jnp.zeros(()).dtype
        make = functools.partial(_compiled_step, form, self._layers)
        self._step = cached(function, ("stream", form, self._layers), make)
        self._states: dict[str, Moments] = {}
        self._before: tuple[Array, Batch] | None = None
        self.seen = 0

    def add(self, batch: Batch) -> None:
        """Bring the moments up to date."""
        forward = self._forward
        with jax.enable_x64(self._x64):
            inputs, places, labels, weights = _arrays(
                batch, forward, self._traced, self._targets, self.seen
            )
        if not self._states:
            self._kind = _kind(labels, self._targets.num_classes, self._num_targets)
            self._states = self._empty()
        labels = checked(labels, weights, self._kind, self._dtype, batch=batch.number)
        positions = len(labels) // batch.rows
        weights = np.pad(weights, (0, (forward.size - batch.rows) * positions))
        labels = pad_rows(labels, forward.size * positions)
        rows = (inputs, places, labels, weights.astype(self._dtype))
        params = forward.params if self._traced else None
        step = functools.partial(self._step, params=params, x64=self._x64)
        if self._traced:
            half = forward.is_half_precision(())
            check = functools.partial(compare_steps, step, self._empty, rows, half)
            with model_named_in_errors(forward.model):
                forward.check_once(inputs, self._function, check)
        self._states, bad = step(self._states, rows=rows)
        # of the step before: this one is under way meanwhile
        _check_finite(self._before, self._layers)
        self._before = (bad, batch._replace(inputs=None))
        self.seen += batch.rows

    def finish(self) -> dict[str, Moments]:
        """The moments of all batches."""
        _check_finite(self._before, self._layers)
        if not self._states:
            raise InputError("there are no batches: was the iterator used up before?")
        return {layer: self._states[layer] for layer in self._layers}  # jit has sorted them

    def _empty(self) -> dict[str, Moments]:
        """The moments of no rows, of each layer."""
        init = functools.partial(
            moments.init,
            num_classes=self._kind.num_classes,
            num_targets=self._kind.num_targets,
            class_counts=self._class_counts,
        )
        states = {layer: init(width) for layer, width in self._forward.widths.items()}
        return jax.tree.map(jnp.array, states)  # the step writes over them


def _counts(dataset: Dataset, num_classes: int | None) -> np.ndarray | None:
    """How many examples of each class there are, from the labels alone."""
    labels = dataset.labels()
    most = num_classes or dataset.num_classes
    return None if labels is None or most is None else np.bincount(labels, minlength=most)


def _in_precision(batches: Iterator[Batch], x64: bool) -> Iterator[Batch]:
    """Batches made in the caller's own precision."""
    while True:
        with jax.enable_x64(x64):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _arrays(
    batch: Batch, forward: Forward, traced: bool, targets: Targets, first: int
) -> tuple[Any, ...]:
    """Inputs (or features, of a model outside JAX) and places, labels and weights of the rows."""
    weights = np.ones(batch.rows) if batch.weights is None else batch.weights
    inputs = forward.pad(batch)
    if traced:
        grid = forward.grid(inputs)
    else:
        inputs, grid = forward.call_untraced(inputs, forward.size)
    chosen = targets.of(batch.labels, batch.number, grid, first, weights)
    inputs, places = jax.tree.map(jnp.asarray, (inputs, chosen.padded_places(forward.size)))
    if chosen.counted is None:
        return inputs, places, chosen.labels, weights
    weights = (weights[:, None] * chosen.counted).reshape(-1)
    return inputs, places, chosen.labels.reshape(-1), weights


def _kind(labels: np.ndarray, num_classes: int | None, num_targets: int | None) -> LabelCounts:
    if not checks.is_classification(labels):
        if num_classes is not None:
            raise InputError(
                f"labels have dtype {labels.dtype}: classes must be integers 0..C-1 "
                "(labels.astype(int)); for regression leave num_classes out"
            )
        columns = int(np.prod(labels.shape[1:], dtype=int))
        return LabelCounts(None, columns if num_targets is None else num_targets, None)
    if num_classes is None:
        raise InputError("the labels are classes: say how many there are (num_classes=...)")
    return LabelCounts(int(num_classes), None, None)


def _check_finite(step: tuple[Array, Batch] | None, layers: tuple[str, ...]) -> None:
    if step is None:
        return
    first_bad, batch = np.asarray(step[0]), step[1]
    for layer, row in zip(layers, first_bad, strict=True):
        if row >= 0:
            where = f", layer {layer}," if len(layers) > 1 else ""
            raise InputError(
                f"features of batch {batch.number}{where} contain NaN or infinity, first in row "
                f"{row} of it: fix the model or give those rows weight 0"
            )


def _outputs(function: Callable[..., Any], form: str, params: Any, inputs: Any) -> Any:
    """The layers of a model, or the output of a function under the name of one."""
    if form == "layers":
        return function(params, inputs)
    arguments = (inputs,) if form == "inputs" else (params, inputs)
    try:
        out = call_function(function, *arguments)
    except jax.errors.JAXTypeError as error:
        first = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"apply_fn cannot be traced by JAX ({type(error).__name__}: {first}): make it of "
            "jax.numpy, or give jaxte.extraction.as_model(apply_fn)"
        ) from error
    if not hasattr(out, "shape"):
        raise output_error(out, "", OUTPUT, "apply_fn")
    return {"features": only(out, where="apply_fn")}


def _identity(params: None, inputs: Any) -> Any:
    """In place of a model that JAX does not trace: its inputs are what that one returned."""
    return inputs


def _compiled_step(
    form: str, layers: tuple[str, ...], function: Callable[[], Callable[..., Any]]
) -> Callable[..., Any]:
    @functools.partial(jax.jit, static_argnames="x64", donate_argnums=0)
    def step(
        states: dict[str, Moments],
        params: Any,
        rows: tuple[Any, Array | None, Array, Array],
        *,
        x64: bool,
    ) -> tuple[dict[str, Moments], Array]:
        """The moments after one more batch; for each layer its first row not finite, else -1."""
        inputs, places, labels, weights = rows
        # Python numbers in the model must not turn it into float64 only because the moments are
        with jax.enable_x64(x64):
            outputs = layers_at(_outputs(function(), form, params, inputs), layers, places)
        if VALID in outputs:
            weights = weights * outputs[VALID].reshape(-1)
        first_bad = []
        for layer in layers:
            features = outputs[layer].reshape(len(weights), -1)
            bad = (weights > 0) & ~jnp.isfinite(features).all(axis=1)
            row = jnp.argmax(bad) // (1 if places is None else places.shape[1])
            first_bad.append(jnp.where(bad.any(), row, -1))
            block = as_rows(features.astype(weights.dtype), weights, None)
            states[layer] = moments.add(states[layer], block, labels)
        return states, jnp.stack(first_bad)

    return step
