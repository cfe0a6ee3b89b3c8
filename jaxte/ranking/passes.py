"""Passes over samples that go by: what steps make of each block, one compiled call a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxte.errors import InputError
from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics.options import split_options
from jaxte.metrics.passes import Pass, PassRequest
from jaxte.ranking.blocks import Block, Blocks, check_finite
from jaxte.ranking.plan import ScoringPlan
from jaxte.runtime.programs import all_digits
from jaxte.statistics import Batch, moments
from jaxte.statistics.linalg import matmul
from jaxte.statistics.measure import Moments, even
from jaxte.statistics.outputs import rows_of_outputs
from jaxte.statistics.rows import Rows, as_rows, class_sums

__all__ = [
    "Ask",
    "AskEach",
    "Collect",
    "Report",
    "Sums",
    "Varied",
    "first_pass",
    "pass_over",
]

Report: TypeAlias = Callable[[int, int | None, str], None]


class _Step(NamedTuple):
    """What a pass does with a block: that of a chain of passes, or () to collect moments.

    ``kind``: it does so "once", or for "each" of several targets or weights; or it makes "sums".
    """

    passes: tuple[Pass, ...]
    options: tuple[tuple[str, Any], ...]
    kind: str = "once"


class Ask(NamedTuple):
    """A pass over all blocks that a metric asks for."""

    request: PassRequest
    options: Mapping[str, Any]

    @property
    def passes(self) -> tuple[Pass, ...]:
        """That are made of each row, one after the other."""
        return tuple(one for one, _, _ in self.request.chain)

    def begin(self, block: Block, blocks: Blocks) -> tuple[_Step, Any, Any]:
        """The step, its constants, and what it begins with."""
        chain = self.request.chain
        static, dynamic = split_options(self.options)
        step = _Step(self.passes, static)
        states = [statistics.measured.moments for *_, statistics in chain]
        centres = tuple((state.origin, state.means) for state in states)
        constants = (centres, tuple(part for _, part, _ in chain), dynamic, blocks.unit)
        rows = _rows_of(block, blocks.padded)
        like = jax.eval_shape(partial(_apply, step), constants, *rows)
        if not chain[-1][0].transform:
            # of NumPy, which compiles nothing
            start: Any = jax.tree.map(lambda one: np.zeros(one.shape, one.dtype), like)
        elif like.shape != rows[0].shape:
            raise InputError(
                "a pass that makes other features has to keep their number where samples are "
                "streamed: give an array"
            )
        else:
            count, dtype = len(states[-1].counts), states[-1].means.dtype
            start = moments.init(blocks.padded, num_classes=count, dtype=dtype)
        return step, constants, start


class AskEach(NamedTuple):
    """The same pass for each of several targets or weights, side by side."""

    asks: Sequence[Ask | Collect]

    def begin(self, block: Block, blocks: Blocks) -> tuple[_Step, Any, Any]:
        """As of `Ask`."""
        begun = [ask.begin(block, blocks) for ask in self.asks]
        step = begun[0][0]._replace(kind="each")
        constants, starts = (
            jax.tree.map(lambda *parts: jnp.stack(parts), *(one[part] for one in begun))
            for part in (1, 2)
        )
        return step, constants, starts


class Sums(NamedTuple):
    """Sums of the rows and of their squares, about ``centre`` [d], for each of several targets.

    By class ([g, C, d] both), or of a regression their products with the targets [g, d, k].
    """

    centre: Array
    each: int
    num_classes: int | None

    def begin(self, block: Block, blocks: Blocks) -> tuple[_Step, Any, Any]:
        """As of `Ask`."""
        d, dtype = blocks.padded, self.centre.dtype
        if self.num_classes is None:
            start: Any = np.zeros((self.each, d, block.targets.shape[1]), dtype)
        else:
            start = (np.zeros((self.each, self.num_classes, d), dtype),) * 2
        return _Step((), (), "sums"), self.centre, start


class Collect(NamedTuple):
    """The first pass, which makes the moments that it ``starts`` from."""

    start: Moments

    def begin(self, block: Block, blocks: Blocks) -> tuple[_Step, Any, Any]:
        """As of `Ask`."""
        return _Step((), ()), (), self.start


def first_pass(blocks: Blocks, plan: ScoringPlan) -> Collect:
    """Moments; with the class-balanced scatter where that saves a second pass."""
    labels = blocks.labels
    assert labels is not None
    wanted = any(metric.class_balanced for metric in plan.metrics)
    wanted &= labels.counts is None or not even(labels.counts)
    enough = all(metric.moments for metric in plan.metrics)
    state = moments.init(
        blocks.padded,
        num_classes=labels.num_classes,
        num_targets=labels.num_targets,
        class_counts=labels.counts if wanted and enough else None,
    )
    return Collect(state)


class Varied(NamedTuple):
    """Targets [n, ...] in the order of the rows, and others, or other weights, several times.

    ``targets`` [g, n, ...] or ``weights`` [g, n].
    """

    own: np.ndarray
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None

    def of(self, block: Block) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Those of the rows of a block [g, b, ...], filled up as it is."""
        rows = slice(block.start, block.start + block.rows)
        if not np.array_equal(self.own[rows], block.targets[: block.rows]):
            raise InputError("the batches come in another order than before: do not shuffle them")

        def filled(each: np.ndarray | None, like: np.ndarray) -> np.ndarray | None:
            if each is None:
                return None
            part = np.zeros((len(each), *like.shape), like.dtype)
            part[:, : block.rows] = each[:, rows]
            return part

        return filled(self.targets, block.targets), filled(self.weights, block.weights)


def pass_over(
    blocks: Blocks,
    start: Callable[[], Sequence[Ask | AskEach | Sums | Collect]],
    *,
    report: Report,
    name: str,
    number: int,
    varied: Varied | None = None,
) -> list[Any]:
    """One pass that feeds every step that ``start`` lists once the first block is there.

    Args:
        blocks: the rows.
        start: what is to be made of them.
        report: told how far it is.
        name: of the model.
        number: of the pass.
        varied: targets or weights for the steps that are made for each of them.

    Returns:
        What each comes to, or the `Exception` that it raised.
    """
    carries: tuple[Any, ...] | None = None
    constants: tuple[Any, ...] = ()
    steps: tuple[_Step, ...] = ()
    failed: dict[int, Exception] = {}
    before: tuple[Array, Block] | None = None
    for block in blocks:
        unit = blocks.unit_of(block)
        if carries is None:
            begun = []
            for index, one in enumerate(start()):
                try:
                    begun.append(one.begin(block, blocks))
                except Exception as error:  # of one metric
                    failed[index] = error
            steps = tuple(step for step, _, _ in begun)
            constants = tuple(part for _, part, _ in begun)
            carries = tuple(_copied(carry) for *_, carry in begun)
        each = (None, None) if varied is None else varied.of(block)
        carries, bad = _advance(
            carries, constants, unit, *block[:4], each, steps=steps, width=blocks.padded
        )
        # of the block before, so that this one is under way while the next is read
        check_finite(before)
        before = (bad, block)
        report(block.start + block.rows, blocks.rows, f"{name}: pass {number}")
    check_finite(before)
    rest = iter(carries or ())
    count = len(carries or ()) + len(failed)
    return [failed[index] if index in failed else next(rest) for index in range(count)]


def _rows_of(block: Block, padded: int) -> tuple[Any, Any, Any, Any]:
    """The shapes of a block inside a step."""
    dtype = block.weights.dtype
    features = jax.ShapeDtypeStruct((len(block.weights), padded), dtype)
    return features, block.targets, block.weights, block.outputs


def _apply(
    step: _Step,
    constants: Any,
    features: Array,
    labels: Array,
    weights: Array,
    outputs: SourceOutputs | None,
) -> Any:
    """What the last pass of a chain makes of rows, which those before it transform."""
    centres, prepared, dynamic, unit = constants
    own_features = features * unit
    options = {**dict(step.options), **dynamic}
    own_class = labels
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        own_class, labels = jnp.zeros(len(labels), jnp.int32), labels.reshape(len(labels), -1)
    weights, logits, probabilities = rows_of_outputs(outputs, weights)
    for one, (origin, means), own in zip(step.passes, centres, prepared, strict=True):
        # one after the other: far from 0 their sum would be rounded
        residuals = features - origin[None] - jnp.take(means, own_class, axis=0, mode="clip")
        batch = Batch(residuals, labels, weights, probabilities, logits, own_features)
        features = own_features = one.apply(own, batch, **options)
    return features


@jax.jit
def _copied(carry: Any) -> Any:
    """Of its own, because the steps write over it; one program, not one for each array."""
    return jax.tree.map(jnp.array, carry)


@partial(jax.jit, static_argnames=("steps", "width"), donate_argnums=0)
@all_digits
def _advance(
    carries: tuple[Any, ...],
    constants: tuple[Any, ...],
    unit: Array,
    features: Array,
    targets: Array,
    weights: Array,
    outputs: SourceOutputs | None,
    each: tuple[Array | None, Array | None],
    *,
    steps: tuple[_Step, ...],
    width: int,
) -> tuple[tuple[Any, ...], Array]:
    """What all steps make of a block, and its first row that is not finite, else -1."""
    x = jnp.pad(features.astype(weights.dtype), ((0, 0), (0, width - features.shape[1])))
    wrong = (weights > 0) & ~jnp.isfinite(x).all(axis=1)
    bad = jnp.where(wrong.any(), jnp.argmax(wrong), -1)
    rows = as_rows(x / unit, weights, None)
    moved = []
    for step, carry, own in zip(steps, carries, constants, strict=True):
        if step.kind == "once":
            moved.append(_added(step, own, outputs, rows, carry, targets))
        elif step.kind == "sums":
            moved.append(_summed(own, rows, carry, each[0]))
        else:
            one = partial(_added_each, step, outputs, rows, targets)
            moved.append(lax.map(one, (own, carry, each)))
    return tuple(moved), bad


def _added(
    step: _Step, own: Any, outputs: SourceOutputs | None, rows: Rows, carry: Any, targets: Array
) -> Any:
    """What was made before, and what a step makes of these rows."""
    if not step.passes:
        return moments.add(carry, rows, targets)
    made = _apply(step, own, rows.features, targets, rows.weights, outputs)
    if step.passes[-1].transform:
        return moments.add(carry, rows._replace(features=made), targets)
    return jax.tree.map(jnp.add, carry, made)


def _added_each(
    step: _Step,
    outputs: SourceOutputs | None,
    rows: Rows,
    targets: Array,
    one: tuple[Any, Any, Any],
) -> Any:
    own, carry, (own_targets, own_weights) = one
    if own_weights is not None:
        rows = as_rows(rows.features, own_weights, None)
    return _added(step, own, outputs, rows, carry, targets if own_targets is None else own_targets)


def _summed(centre: Array, rows: Rows, carry: Any, each: Array | None) -> Any:
    """What `Sums` adds up."""
    assert each is not None
    x = jnp.where((rows.weights > 0)[:, None], rows.features - centre[None], 0)
    weighted = rows.weights[:, None] * x
    if not isinstance(carry, tuple):
        return carry + lax.map(lambda y: matmul(weighted.T, y), each)

    def by_class(labels: Array) -> tuple[Array, Array]:
        number = carry[0].shape[1]
        return class_sums(weighted, labels, number), class_sums(weighted * x, labels, number)

    return jax.tree.map(jnp.add, carry, lax.map(by_class, each))
