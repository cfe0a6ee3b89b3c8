"""The forward pass of a model over batches of one size, on one device or the devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxte.errors import InputError
from jaxte.extraction._batches import Batch, pad_rows
from jaxte.extraction._compiled import cached
from jaxte.extraction._evaluation import compare, is_half, order, reordered
from jaxte.extraction._model import describe_preprocessing
from jaxte.extraction._outputs import LOGITS, output_error
from jaxte.extraction.models import Model, log, resolve_traced
from jaxte.extraction.targets import LEVELS, Chosen, Targets
from jaxte.runtime.mesh import SAMPLES, Layout

__all__ = ["Forward", "Rows", "model_named_in_errors"]

VALID = "valid"


class Rows(NamedTuple):
    """What a batch came to, on the host."""

    features: dict[str, np.ndarray]  # layer -> [r, d]
    labels: np.ndarray
    logits: np.ndarray | None


class Forward:
    """A model at work: give it a batch, and fetch the rows later.

    Attributes:
        size: rows of the batches that are compiled for.
        params: of the model, on the devices.
        widths: of the layers, after the first batch.
        notes: what a user should know of the inputs, after the first batch.

    Args:
        model: whose layers are wanted.
        dtype: of the features.
        logits: whether they are wanted, if the model has them.
        layout: of a mesh whose devices share every batch.
        size: rows of a batch, if larger than the first one's.
    """

    def __init__(
        self, model: Model, *, dtype: str, logits: bool, layout: Layout | None, size: int = 0
    ) -> None:
        self.model, self.dtype, self.layout = model, dtype, layout
        self.size = size
        self._extra: tuple[str, ...] = (LOGITS,) if logits and model.level == "example" else ()
        self._shapes: Any = None
        self._grid: tuple[int, ...] = ()
        self._thread: ThreadPoolExecutor | None = None
        self._begun = False
        self._second: Any = None  # what a model gave when it was tried
        self.params: Any = None
        self.widths: dict[str, int] = {}
        self.notes: list[str] = []

    def __call__(self, batch: Batch, targets: Targets, first: int) -> Callable[[], Rows]:
        """Set a batch to work; what comes back waits for the device and fetches the rows."""
        inputs = self.pad(batch)
        if not self.model.traced:
            return self._untraced(inputs, self.size, batch, targets, first)
        # where examples are the rows, the compiled step checks the outputs by itself
        grid = self.grid(inputs) if self.model.level != "example" else ()
        chosen = targets.of(batch.labels, batch.number, grid, first)
        places = chosen.padded_places(self.size)
        placed = self._placed(inputs, places)
        with model_named_in_errors(self.model):
            outputs = self._compiled()(self.params, *placed)

            def check() -> None:
                second = self._placed(*reordered((inputs, places)))
                self._check_mode(outputs, self._compiled()(self.params, *second))

            self.check_once(inputs, self.model.apply, check)
        return lambda: self._rows(outputs, chosen, batch)

    def check_once(self, inputs: Any, owner: Any, check: Callable[[], None]) -> None:
        """Check that a function is in evaluation mode, unless that was seen before.

        The zoo's models have no other, and a `Model` made by hand has no card.
        """
        if self.model.card.get("kind") in (None, "zoo"):
            return
        shapes = jax.tree.map(lambda leaf: (np.shape(leaf), str(leaf.dtype)), inputs)
        seen = cached(owner, "checked", lambda _: [])
        if shapes not in seen:
            check()
            seen.append(shapes)

    def _check_mode(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
        """Raise `InputError` if the outputs of two passes show that the model is training."""

        def features(out: Mapping[str, Any]) -> dict[str, np.ndarray]:
            arrays = {name: np.asarray(out[name], np.float64) for name in self.model.layers}
            if VALID not in out:
                return arrays
            # what fills up the words of an example may depend on how many the others have
            valid = np.asarray(out[VALID], bool)[..., None]
            return {name: np.where(valid, x, 0) for name, x in arrays.items()}

        one = {name: x[order(len(x))] for name, x in features(first).items()}
        compare(one, features(second), self.is_half_precision(first))

    def is_half_precision(self, outputs: Any) -> bool:
        """Whether the arithmetic or the features have 16 bits."""
        reduced = self.model.card.get("compute_dtype") in ("bfloat16", "float16")
        return reduced or is_half(self.model.params, outputs)

    def pad(self, batch: Batch) -> Any:
        """The inputs of a batch, with as many rows as are compiled for."""
        self.size = max(self.size, batch.rows)
        if self.layout is not None:
            self.size = self.layout.padded(self.size)
        inputs = jax.tree.map(lambda leaf: pad_rows(leaf, self.size), batch.inputs)
        if not self._begun:
            self.warn_unscaled(inputs)
            self.model, self._second = resolve_traced(self.model, inputs)
            if self.layout is not None and not self.model.traced:
                raise InputError(
                    f"{self.model.name} is no model that JAX traces: leave out mesh, or give it "
                    "devices by its own framework"
                )
            if self.model.traced:
                layout = self.layout
                place = None if layout is None else NamedSharding(layout.mesh, PartitionSpec())
                self.params = jax.device_put(self.model.params, place)
            self._begun = True
        return inputs

    def warn_unscaled(self, inputs: Any) -> None:
        """Warn of images that are not scaled; the models of the zoo do that themselves."""
        raw = any(leaf.dtype == np.uint8 and leaf.ndim > 2 for leaf in jax.tree.leaves(inputs))
        if raw and not self.notes and self.model.card.get("kind") != "zoo":
            by = (
                "none" if self.model.prepare is None else describe_preprocessing(self.model.prepare)
            )
            self.notes.append(f"preprocessing: {by}, values 0 to 255")
            log.warning("%s: %s", self.model.name, self.notes[0])

    def grid(self, inputs: Any) -> tuple[int, ...]:
        """The positions of an example in the outputs, computed once for every shape of inputs."""
        shapes = jax.tree.map(lambda leaf: (np.shape(leaf), leaf.dtype), inputs)
        if shapes != self._shapes:
            with model_named_in_errors(self.model):
                self._set_shapes(jax.eval_shape(self.model.apply, self.params, inputs), self.size)
            self._shapes = shapes
        return self._grid

    def call_untraced(
        self, inputs: Any, size: int
    ) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
        """The outputs of a model that JAX does not trace, as arrays, and their positions."""
        with model_named_in_errors(self.model):
            out = self.model.apply(self.model.params, inputs)
            self._set_shapes(out, size)

            def check() -> None:
                second, self._second = self._second, None
                if second is None:
                    second = self.model.apply(self.model.params, reordered(inputs))
                self._check_mode(out, second)

            self.check_once(inputs, self.model.apply, check)
        names = (*self.model.layers, *self._extra, VALID)
        return {name: np.asarray(out[name]) for name in names if name in out}, self._grid

    def _set_shapes(self, out: Any, size: int) -> None:
        self._grid = grid_of(out, self.model.layers, self.model.level, size)
        self.widths = {name: int(np.shape(out[name])[-1]) for name in self.model.layers}

    def close(self) -> None:
        """Let go of the thread that a model outside JAX works in."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)

    # --- models that JAX traces ------------------------------------------------------------------

    def _compiled(self) -> Callable[..., Any]:
        layers, extra, dtype, level = self.model.layers, self._extra, self.dtype, self.model.level
        mesh = None if self.layout is None else self.layout.mesh

        def make(apply: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
            def step(params: Any, inputs: Any, places: Any) -> dict[str, Any]:
                out = apply()(params, inputs)
                grid_of(out, layers, level, len(jax.tree.leaves(inputs)[0]))
                return cast_layers(out, layers, extra, dtype, places)

            if mesh is None:
                return jax.jit(step)
            rows = _rows_spec(mesh)
            specs = (PartitionSpec(), rows, rows)
            # each device runs the model on its own rows, whatever it is made of
            return jax.jit(
                jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)
            )

        return cached(self.model.apply, ("extract", layers, extra, dtype, mesh, level), make)

    def _placed(self, *arrays: Any) -> tuple[Any, ...]:
        """On the devices of the mesh; else as they are, which jit copies before it returns."""
        if self.layout is None:
            return arrays
        place = NamedSharding(self.layout.mesh, _rows_spec(self.layout.mesh))
        return jax.tree.map(lambda leaf: jax.device_put(leaf, place, may_alias=False), arrays)

    # --- models that it does not -----------------------------------------------------------------

    def _untraced(
        self, inputs: Any, size: int, batch: Batch, targets: Targets, first: int
    ) -> Callable[[], Rows]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="jaxte-model")

        def work() -> tuple[Any, Chosen]:
            arrays, grid = self.call_untraced(inputs, size)
            chosen = targets.of(batch.labels, batch.number, grid, first)
            places = chosen.padded_places(size)
            return _collect(arrays, self.model.layers, self._extra, self.dtype, places), chosen

        future = self._thread.submit(work)
        return lambda: self._rows(*future.result(), batch)

    # --- both ------------------------------------------------------------------------------------

    def _rows(self, outputs: Mapping[str, Any], chosen: Chosen, batch: Batch) -> Rows:
        arrays = {name: np.asarray(value)[: batch.rows] for name, value in outputs.items()}
        labels, counted = chosen.labels, chosen.counted
        if counted is not None:
            if VALID in arrays:  # a word that was cut off has no features
                counted = counted & arrays[VALID]
            arrays = {name: value[counted] for name, value in arrays.items() if name != VALID}
            labels = labels[counted]
        for name, value in arrays.items():
            self._check_finite(value, name, batch.number)
        logits = arrays[LOGITS] if LOGITS in self._extra and LOGITS in arrays else None
        return Rows({name: arrays[name] for name in self.model.layers}, labels, logits)

    def _check_finite(self, array: np.ndarray, layer: str, index: int) -> None:
        finite = np.isfinite(array)
        if finite.all():
            return
        row = int(np.argmin(finite.all(axis=1)))
        value = "NaN" if np.isnan(array[row]).any() else "infinity"
        if self.dtype == "float16" and value == "infinity":
            value += ", or more than float16 holds (store bfloat16 or float32)"
        raise InputError(
            f"{self.model.name}: features of batch {index} contain {value}, first in row {row} of "
            f"it, layer {layer}: fix the model or leave that example out"
        )


def _rows_spec(mesh: jax.sharding.Mesh) -> PartitionSpec:
    return PartitionSpec(SAMPLES if SAMPLES in mesh.axis_names else None)


def cast_layers(
    out: Mapping[str, Any],
    layers: tuple[str, ...],
    extra: tuple[str, ...],
    dtype: str,
    places: Any,
) -> dict[str, Any]:
    """The layers in the type of the store, of words and pixels only those at ``places``."""
    kind = jnp.dtype(jnp.result_type(float) if dtype == "float64" else dtype)
    arrays = layers_at(out, layers, places)
    arrays |= {name: x.astype(kind) for name, x in arrays.items() if name != VALID}
    extra = tuple(name for name in extra if name in out and name not in arrays)
    return arrays | {name: out[name].astype(jnp.float32) for name in extra}


def layers_at(out: Mapping[str, Any], layers: tuple[str, ...], places: Any) -> dict[str, Any]:
    """The layers, of words and pixels only those at ``places``, and which of these are valid."""
    arrays = {name: out[name] for name in layers}
    if places is None:
        return arrays
    if VALID in out:
        arrays[VALID] = out[VALID].astype(bool)[..., None]
    for name, x in arrays.items():
        positions = x.reshape(len(x), -1, x.shape[-1])
        arrays[name] = jnp.take_along_axis(positions, places[:, :, None], axis=1)
    if VALID in arrays:
        arrays[VALID] = arrays[VALID][..., 0]
    return arrays


_collect = jax.jit(cast_layers, static_argnames=("layers", "extra", "dtype"))


def grid_of(out: Any, layers: tuple[str, ...], level: str, rows: int) -> tuple[int, ...]:
    """The positions of an example: (), (W,) or (h, w)."""
    if not isinstance(out, Mapping):
        raise InputError(
            f"apply returns a {type(out).__name__}, not a mapping from the names of layers to "
            "arrays"
        )
    axes = LEVELS[level]
    expected = "[b, " + "".join(f"{axis}, " for axis in axes) + "d]"
    grids = {}
    for name in layers:
        if name not in out:
            names = ", ".join(map(str, out))
            raise InputError(f"apply returns no layer {name!r}, but {names}")
        if not hasattr(out[name], "shape"):
            raise output_error(out[name], "", name, f"layer {name!r}")
        shape = tuple(np.shape(out[name]))
        if len(shape) != len(axes) + 2:
            raise InputError(
                f"layer {name} has shape {shape}, not {expected}: pool or flatten it, or choose "
                "another level"
            )
        if shape[0] != rows:
            raise InputError(f"layer {name} has {shape[0]} rows for a batch of {rows}")
        grids[name] = shape[1:-1]
    if len(set(grids.values())) > 1:
        raise InputError(
            "layers have different positions, "
            + ", ".join(f"{name} {list(grid)}" for name, grid in grids.items())
            + ": extract each into a store of its own"
        )
    return next(iter(grids.values()))


@contextmanager
def model_named_in_errors(model: Model) -> Iterator[None]:
    """Errors of a model begin with its name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{model.name}: {error}") from error
