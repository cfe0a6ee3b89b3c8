"""`stream`: moments made in the same compiled step as the features, which are never kept."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxte import _inputs, moments
from jaxte._blocks import Labels, checked
from jaxte._inputs import InputError
from jaxte._precision import precision_context
from jaxte.moments import Moments

__all__ = ["stream"]


def stream(
    apply_fn: Callable[..., Any],
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    params: Any = None,
    num_classes: int | None = None,
    num_targets: int | None = None,
    class_counts: ArrayLike | None = None,
    precision: str = "auto",
) -> Moments:
    r"""The moments of a model's features, without ever keeping the features.

    .. math:: S = \sum_i (f(x_i) - m_{y_i}) (f(x_i) - m_{y_i})^\top

    and the class counts and means, brought up to date in one compiled step with the forward pass
    of each batch: features stay on the device, in memory there is one batch of them. The forward
    pass computes in the model's own precision, the moments in ``precision``.

    `jaxte.rank` takes the result for features: ``jaxte.rank({name: moments}, metrics="logme")``.

    Args:
        apply_fn: inputs -> features [b, d], or (params, inputs) -> features; traced by JAX, so
            without side effects and in inference mode.
        batches: (inputs, labels) or (inputs, labels, weights) for each batch; inputs are any
            pytree of arrays with b rows, labels [b] integer classes, or [b] or [b, k] floats. The
            shapes of the first batch are compiled for; shorter ones are filled up.
        params: weights of the model. Given here they are an argument of the compiled step; what
            ``apply_fn`` closes over may be copied into it, and two models of one architecture
            are then compiled twice.
        num_classes: C, required for integer labels unless ``class_counts`` are given.
        num_targets: k, for float labels; taken from the first batch unless given.
        class_counts: [C] samples of each class in the end, for `face` (see `jaxte.moments.init`).
        precision: of the moments, "auto", "float32" or "float64", as in `jaxte.rank`.

    Returns:
        `jaxte.moments.Moments` of d features, in the units of the features.

    Raises:
        InputError: for outputs that are no matrix or not finite, labels that do not fit, or no
            batches at all.

    Source: Chan, Golub, LeVeque, The American Statistician 37(3), 1983.

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
    if class_counts is not None and num_classes is None:
        num_classes = np.size(class_counts)
    plain = jnp.result_type(float) == jnp.float64
    step = _step_for(apply_fn, params is not None)
    state: Moments | None = None
    before: tuple[Array, int] | None = None
    size = seen = 0
    with precision_context(precision):
        dtype = jnp.zeros(()).dtype
        with jax.enable_x64(plain):
            params = jax.tree.map(_on_device, params)
        for index, given in _numbered(batches, plain):
            with jax.enable_x64(plain):
                batch = _checked(given, index)
            rows = len(batch.weights)
            size = max(size, rows)
            with jax.enable_x64(plain):
                inputs = jax.tree.map(functools.partial(_filled, size=size), batch.inputs)
                if state is None:
                    width = _width(apply_fn, params, inputs)
            if state is None:
                known = _kind(batch.labels, num_classes, num_targets)
                state = moments.init(
                    width,
                    num_classes=known.num_classes,
                    num_targets=known.num_targets,
                    class_counts=class_counts,
                )
                state = jax.tree.map(jnp.array, state)  # the step writes over it
            labels = checked(batch.labels, batch.weights, known, dtype, batch=index, start=seen)
            weights = np.pad(batch.weights, (0, size - rows)).astype(dtype)
            state, bad = step(state, params, inputs, _filled(labels, size), weights, plain=plain)
            _check_finite(before)  # the step before: this one is under way meanwhile
            before, seen = (bad, index), seen + rows
        _check_finite(before)
    if state is None:
        raise InputError("there are no batches: was the iterator used up before?")
    return state


class _Batch(NamedTuple):
    inputs: Any
    labels: np.ndarray
    weights: np.ndarray


def _numbered(batches: Any, plain: bool) -> Iterator[tuple[int, Any]]:
    """Numbered batches, made in the caller's own precision."""
    with jax.enable_x64(plain):
        iterator = iter(batches() if callable(batches) else batches)
    index = 0
    while True:
        with jax.enable_x64(plain):
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield index, batch
        index += 1


def _checked(batch: Any, index: int) -> _Batch:
    if not isinstance(batch, tuple | list) or not 2 <= len(batch) <= 3:
        raise InputError(f"batch {index} must be (inputs, labels) or (inputs, labels, weights)")
    inputs, labels, *rest = batch
    inputs = jax.tree.map(_as_array, inputs)
    labels = np.asarray(labels)
    rows = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(inputs)}
    if rows != {labels.shape[:1]} or not labels.shape or not len(labels):
        shapes = ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(inputs)) or "nothing"
        raise InputError(
            f"batch {index} has inputs {shapes} and labels {labels.shape}: all need the same "
            "number of rows, at least one"
        )
    weights = np.asarray(rest[0], np.float64) if rest else np.ones(len(labels))
    if weights.shape != labels.shape[:1] or not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(f"batch {index}: weights must be finite and >= 0, one for each row")
    return _Batch(inputs, labels, weights)


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array | np.ndarray) else np.asarray(leaf)


def _on_device(leaf: Any) -> Array:
    return jnp.asarray(leaf)


def _filled(leaf: Any, size: int) -> Any:
    """As many rows as are compiled for: the last again, which any model can take."""
    lacking = size - len(leaf)
    if lacking:
        xp: Any = jnp if isinstance(leaf, jax.Array) else np
        leaf = xp.concatenate([leaf, xp.repeat(leaf[-1:], lacking, axis=0)])
    return jnp.asarray(leaf)


def _width(apply_fn: Callable[..., Any], params: Any, inputs: Any) -> int:
    arguments = (inputs,) if params is None else (params, inputs)
    out = jax.eval_shape(apply_fn, *arguments)
    rows = len(jax.tree.leaves(inputs)[0])
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise InputError(
            f"apply_fn returns a {type(out).__name__}, not one array of features: pick one, as "
            "lambda x: model(x)['features']"
        )
    if len(out.shape) != 2:
        raise InputError(
            f"apply_fn returns shape {out.shape}, not [b, d]: pool or flatten it, as "
            "lambda x: model(x).mean(axis=(1, 2))"
        )
    if out.shape[0] != rows:
        raise InputError(f"apply_fn returns {out.shape[0]} rows for a batch of {rows}")
    return int(out.shape[1])


def _kind(labels: np.ndarray, num_classes: int | None, num_targets: int | None) -> Labels:
    if not _inputs.is_classification(labels):
        if num_classes is not None:
            raise InputError(
                f"labels have dtype {labels.dtype}: classes must be integers 0..C-1 "
                "(labels.astype(int)); for regression leave num_classes out"
            )
        found = int(np.prod(labels.shape[1:], dtype=int))
        return Labels(None, found if num_targets is None else num_targets, None)
    if num_classes is None:
        raise InputError("the labels are classes: say how many there are (num_classes=...)")
    return Labels(int(num_classes), None, None)


def _check_finite(done: tuple[Array, int] | None) -> None:
    if done is not None and (row := int(done[0])) >= 0:
        raise InputError(
            f"features of batch {done[1]} contain NaN or infinity, first in row {row} of it: fix "
            "the model or give those rows weight 0"
        )


# The compiled steps live as long as the models that they were made for.
_STEPS: weakref.WeakKeyDictionary[Any, dict[bool, Any]] = weakref.WeakKeyDictionary()


def _step_for(apply_fn: Callable[..., Any], with_params: bool) -> Callable[..., Any]:
    try:
        kept = _STEPS.setdefault(apply_fn, {})
        refer: Callable[[], Any] = weakref.ref(apply_fn)
    except TypeError:  # a callable that cannot be hashed or referred to weakly
        kept, refer = {}, lambda: apply_fn
    if with_params not in kept:
        kept[with_params] = _compiled(refer, with_params)
    return kept[with_params]


def _compiled(model: Callable[[], Any], with_params: bool) -> Callable[..., Any]:
    @functools.partial(jax.jit, static_argnames="plain", donate_argnums=0)
    def step(
        state: Moments, params: Any, inputs: Any, labels: Array, weights: Array, *, plain: bool
    ) -> tuple[Moments, Array]:
        """The moments after one more batch, and its first row that is not finite, else -1."""
        # Python numbers in the model must not turn it into float64 only because the moments are
        with jax.enable_x64(plain):
            features = model()(params, inputs) if with_params else model()(inputs)
        wrong = (weights > 0) & ~jnp.isfinite(features).all(axis=1)
        bad = jnp.where(wrong.any(), jnp.argmax(wrong), -1)
        row = _inputs.rows(features.astype(weights.dtype), weights, None)
        return moments.add(state, row, labels), bad

    return step
