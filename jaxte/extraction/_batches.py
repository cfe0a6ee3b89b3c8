"""Batches in the forms that people have them in: taken apart, prepared, named, filled up."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.data.images import is_pillow, of_pillow
from jaxte.errors import InputError

Prepare = Callable[[Sequence[Any]], Any]

_LABELS = ("label", "labels", "target", "targets")
_INPUTS = ("inputs", "image", "images", "text", "texts", "tokens", "words", "x")


class Batch(NamedTuple):
    """Inputs [b, ...], as one array or a pytree of them, and what to learn of each row."""

    number: int
    inputs: Any
    labels: Any  # an array [b, ...], or a list of b arrays where their lengths differ
    rows: int
    weights: np.ndarray | None = None
    skipped: Mapping[int, str] = {}  # number of an example that was left out -> why

    @property
    def examples(self) -> int:
        """How many examples of the data it stands for."""
        return self.rows + len(self.skipped)


def read(batches: Any, prepare: Prepare | None, *, weighted: bool = False) -> Iterator[Batch]:
    """Number and take apart (inputs, labels) pairs or dicts; batches without rows are left out.

    Args:
        batches: an iterable, or a function that returns one.
        prepare: list of raw examples -> inputs.
        weighted: whether there may be a third part, weights.
    """
    if not isinstance(batches, Iterable) and callable(batches):
        batches = batches()
    if isinstance(batches, Mapping | str | bytes) or not isinstance(batches, Iterable):
        raise InputError(
            f"batches is a {type(batches).__name__}: give a Dataset, or an iterable of "
            "(inputs, labels) pairs or of dicts"
        )
    index, listed = 0, isinstance(batches, list | tuple)
    for item in batches:
        inputs, labels, *weights = _parts(item, index, weighted)
        arrays = prepared(inputs, prepare, index)
        batch = checked(arrays, labels, index)
        if arrays is inputs and not listed:
            # JAX may still be reading an array that the iterator fills again for its next batch
            batch = batch._replace(inputs=jax.tree.map(_copied, batch.inputs))
        if batch.rows:
            yield batch._replace(weights=_weights(weights, batch)) if weights else batch
            index += 1


def prepared(inputs: Any, prepare: Prepare | None, index: int) -> Any:
    """Raw examples made into arrays; inputs that are arrays by name are arrays already."""
    if isinstance(inputs, Mapping) and not all(map(_is_numeric, inputs.values())):
        lists = [list(column) for column in inputs.values()]
        inputs = [dict(zip(inputs, row, strict=True)) for row in zip(*lists, strict=True)]
    if prepare is None or isinstance(inputs, Mapping):
        return inputs
    if isinstance(inputs, tuple) and inputs and not isinstance(inputs[0], str):
        return inputs  # a pytree
    try:
        return prepare([np.asarray(i) if isinstance(i, jax.Array) else i for i in inputs])
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"batch {index} cannot be prepared for the model: {error}") from error


def checked(inputs: Any, labels: Any, index: int) -> Batch:
    """A batch whose inputs are arrays, with as many rows as labels."""
    if isinstance(inputs, list) and not any(isinstance(i, Mapping) for i in inputs):
        named = ((f"batch {index}, example {row}", one) for row, one in enumerate(inputs))
        inputs = [of_pillow(one, where) if is_pillow(one) else one for where, one in named]
        try:
            inputs = np.asarray(inputs)
        except ValueError as error:
            raise InputError(
                f"batch {index} has inputs of different shapes: give them one size, or "
                "prepare=..., a function from a list of examples to arrays"
            ) from error
    inputs = jax.tree.map(as_array, inputs)
    leaves = jax.tree.leaves(inputs)
    if any(leaf.dtype.kind in "OUS" for leaf in leaves):
        raise InputError(
            f"batch {index} has inputs that are not numbers: give prepare=..., a function from a "
            "list of examples to arrays"
        )
    listed = isinstance(labels, list | tuple)
    rows = len(labels) if listed or np.ndim(labels) else -1
    if not leaves or {np.shape(leaf)[:1] for leaf in leaves} != {(rows,)}:
        shapes = ", ".join(str(np.shape(leaf)) for leaf in leaves) or "nothing"
        of_labels = f"({rows}, ...)" if listed else np.shape(labels)
        raise InputError(
            f"batch {index} has inputs {shapes} and labels {of_labels}: all need the same number "
            "of rows"
        )
    return Batch(index, inputs, labels, rows)


def as_array(leaf: Any) -> Any:
    """A leaf of a pytree of inputs as an array; one on a device stays there."""
    return leaf if isinstance(leaf, jax.Array | np.ndarray) else np.asarray(leaf)


def pad_rows(leaf: Any, size: int) -> Any:
    """As many rows as are compiled for: the last again, which any model can take."""
    lacking = size - len(leaf)
    if not lacking:
        return leaf
    xp: Any = jnp if isinstance(leaf, jax.Array) else np
    return xp.concatenate([leaf, xp.repeat(leaf[-1:], lacking, axis=0)])


def _copied(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def digest(batch: Batch) -> str:
    """Names for the inputs and the labels of a batch, the same wherever they are computed."""
    labels = batch.labels if isinstance(batch.labels, list | tuple) else [batch.labels]
    return f"{_hashed(jax.tree.leaves(batch.inputs))}.{_hashed(labels)}"


def _hashed(arrays: Iterable[Any]) -> str:
    """A checksum, not a cryptographic digest, as it has to keep up with the devices."""
    checksum = 0
    for array in map(np.asarray, arrays):
        checksum = zlib.crc32(f"{array.dtype.str} {array.shape};".encode(), checksum)
        checksum = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, checksum)
    return f"{checksum:08x}"


def _parts(batch: Any, index: int, weighted: bool) -> tuple[Any, ...]:
    """Inputs and labels of one batch, and weights if there are any."""
    if isinstance(batch, Mapping):
        return _of_mapping(batch, index)
    if isinstance(batch, tuple | list) and 2 <= len(batch) <= 2 + weighted:
        return tuple(batch)
    what = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
    more = " or (inputs, labels, weights)" if weighted else ""
    raise InputError(
        f"batch {index} must be (inputs, labels){more} or a dict of them, not {what}; all examples "
        "at once are a tuple (inputs, labels)"
    )


def _weights(parts: Sequence[Any], batch: Batch) -> np.ndarray:
    weights = np.asarray(parts[0], np.float64)
    if weights.shape != (batch.rows,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise InputError(f"batch {batch.number}: weights must be finite and >= 0, one for each row")
    return weights


def _of_mapping(batch: Mapping[str, Any], index: int) -> tuple[Any, Any]:
    label = next((key for key in _LABELS if key in batch), None)
    if label is None:
        raise InputError(
            f"batch {index} has the keys {', '.join(map(str, batch)) or 'none'}: its labels must "
            f"be called {' or '.join(map(repr, _LABELS))}"
        )
    named = next((key for key in _INPUTS if key in batch), None)
    if named is not None:
        return batch[named], batch[label]
    rest = {key: value for key, value in batch.items() if key not in _LABELS}
    only = next(iter(rest.values())) if len(rest) == 1 else None
    raw = only is not None and not _is_numeric(only)  # texts under any name
    return only if raw else rest, batch[label]


def _is_numeric(column: Any) -> bool:
    if isinstance(column, list | tuple) and any(map(is_pillow, column)):
        return False
    return getattr(as_array(column), "dtype", np.dtype(object)).kind not in "OUS"
