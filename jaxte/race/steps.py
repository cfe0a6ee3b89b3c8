"""Fine-tuning steps of any traced model: what is trained, one program of a step, forward passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxte.errors import InputError
from jaxte.extraction.models import Model
from jaxte.runtime.devices import platform_of
from jaxte.zoo.train import augment, batches, optimiser, schedule, update

__all__ = ["Recipe", "Weights", "flops", "forward", "join", "split", "train"]

BATCH = 256  # rows of a forward pass, so that each architecture compiles once


class Recipe(NamedTuple):
    """How a model is fine-tuned: AdamW, all parameters, from a head fitted to frozen features.

    Statistics of batches stay as they are, and nothing is dropped out.

    Attributes:
        epochs: of the full fine-tuning, whose cost is the unit of the race's budget.
        fewest: images that it trains on at least, where the data is small.
        stages: of the race after frozen features: shares of the full fine-tuning.
        folds: into which the examples are cut, each predicted by a run on the others.
        batch: rows of a step; small ones make more of few images.
        rates: peak learning rates, tried side by side; the best of a run counts.
        warmup: share of the steps in which the rate rises, before half a cosine down to 0.
        decay: of the weights, decoupled.
        shift: images are shifted by so many pixels at most.
        flip: whether images are mirrored by chance.
    """

    epochs: int = 20
    fewest: int = 4800
    stages: tuple[float, ...] = (0.2, 0.4, 1.0)
    folds: int = 4
    batch: int = 8
    rates: tuple[float, ...] = (1e-3,)
    warmup: float = 0.1
    decay: float = 1e-4
    shift: int = 2
    flip: bool = False

    def check(self) -> None:
        """Raise `InputError` for settings by which nothing can be trained."""
        rising = all(a < b for a, b in zip((0.0, *self.stages), self.stages, strict=False))
        if not rising or max(self.stages, default=0.0) > 1:
            raise InputError(f"stages are {self.stages}: give rising shares above 0 and up to 1")
        if not self.rates or min(self.rates) <= 0:
            raise InputError(f"rates are {self.rates}: give at least one above 0")
        for name, least in (("epochs", 1), ("folds", 2), ("batch", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: at least {least} is needed")

    def images(self, n: int) -> int:
        """How many images the full fine-tuning on n of them trains on."""
        return max(self.fewest, self.epochs * n)


class Weights(NamedTuple):
    """What is trained: leaves of the model's parameters, and the head."""

    body: list[Any]
    kernel: Any
    bias: Any


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _trained(model: Model) -> list[bool]:
    """Whether each leaf of the parameters is trained: statistics, keys and constants are not."""
    part = {"zoo": "weights", "linen": "params"}.get(model.card.get("kind", ""), "")
    result = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params, is_leaf=_is_variable):
        inside = not part or getattr(path[0], "key", None) == part
        if _is_variable(leaf):
            inside, leaf = inside and isinstance(leaf, nnx.Param), leaf.get_value()
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        result.append(inside and bool(jnp.issubdtype(dtype, jnp.floating)))
    return result


def split(model: Model) -> tuple[list[Any], list[Any], Any]:
    """Leaves that are trained, those that are not, and how `join` puts them together."""
    leaves, structure = jax.tree.flatten(model.params)
    trained = tuple(_trained(model))
    if len(trained) != len(leaves) or not any(trained):
        raise InputError(
            f"{model.name} has no parameters to train: give a Flax module, a function of its "
            "variables (variables=), or trial="
        )
    body = [leaf for leaf, chosen in zip(leaves, trained, strict=True) if chosen]
    rest = [leaf for leaf, chosen in zip(leaves, trained, strict=True) if not chosen]
    return body, rest, (structure, trained)


def join(body: list[Any], rest: list[Any], how: Any) -> Any:
    """The parameters of a model, of leaves that `split` took apart."""
    structure, trained = how
    first, second = iter(body), iter(rest)
    return jax.tree.unflatten(structure, [next(first if one else second) for one in trained])


def _features(model: Any, layer: str, params: Any, inputs: Any) -> jax.Array:
    features: jax.Array = model(params, inputs)[layer]
    if features.ndim != 2:
        raise InputError(f"layer {layer} has shape {features.shape}, not [b, d]: pool it")
    return features.astype(jnp.float32)


@partial(jax.jit, static_argnames=("apply", "layer", "how"))
def _forward(
    apply: Any, layer: str, how: Any, weights: Weights, rest: list[Any], inputs: Any
) -> tuple[jax.Array, jax.Array]:
    features = _features(apply, layer, join(weights.body, rest, how), inputs)
    return features, features @ weights.kernel + weights.bias


def forward(
    model: Model, weights: Weights, rest: list[Any], how: Any, inputs: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, d] and outputs [n, C], in batches of one shape, the last filled up."""
    n = len(jax.tree.leaves(inputs)[0])
    parts = []
    for start in range(0, n, BATCH):
        rows = np.minimum(np.arange(start, start + BATCH), n - 1)
        batch = jax.tree.map(lambda x, rows=rows: x[rows], inputs)
        both = _forward(model.apply, model.layers[0], how, weights, rest, batch)
        parts.append([np.asarray(x)[: n - start] for x in both])
    features, outputs = zip(*parts, strict=True)
    return np.concatenate(features), np.concatenate(outputs)


def flops(model: Model, inputs: Any) -> float:
    """Floating-point operations of a forward pass of one example, as the compiler counts them."""
    batch = jax.tree.map(lambda x: x[:8], inputs)
    size = len(jax.tree.leaves(batch)[0])
    lowered = jax.jit(lambda params, x: model.apply(params, x)[model.layers[0]]).lower(
        model.params, batch
    )
    counted: Any = lowered.cost_analysis() or {}
    return float(counted.get("flops", 0.0)) / size


@partial(jax.jit, static_argnames=("apply", "layer", "how", "options"), donate_argnames=("state",))
def _step(
    apply: Callable[..., Any], layer: str, how: Any, options: tuple[Any, ...],
    state: tuple[Weights, Any], rest: list[Any], inputs: Any, targets: jax.Array,
    key: jax.Array, rate: jax.Array, decay: jax.Array,
) -> tuple[Weights, Any]:  # fmt: skip
    """One step of several runs side by side: a leading axis in state, and a rate for each."""
    regression, shift, flip = options
    if shift or flip:
        inputs = augment(key, inputs, shift, flip)

    def loss(weights: Weights) -> jax.Array:
        features = _features(apply, layer, join(weights.body, rest, how), inputs)
        outputs = features @ weights.kernel + weights.bias
        if regression:
            return ((outputs - targets) ** 2).mean()
        return optax.softmax_cross_entropy(outputs, targets).mean()

    def one(weights: Weights, moments: Any, rate: jax.Array) -> tuple[Weights, Any]:
        return update(weights, moments, jax.grad(loss)(weights), rate, decay)

    weights, moments = state
    if len(rate) == 1:  # without the axis, whose batched convolutions are slow on CPUs
        weights, moments = jax.tree.map(lambda x: x[0], (weights, moments))
        return jax.tree.map(lambda x: x[None], one(weights, moments, rate[0]))
    return jax.vmap(one)(weights, moments, rate)


def train(
    model: Model, weights: Weights, rest: list[Any], how: Any,
    inputs: Any, targets: np.ndarray, rows: np.ndarray, recipe: Recipe, rates: tuple[float, ...],
    *, steps: int, regression: bool, seed: int,
) -> list[Weights]:  # fmt: skip
    """Take steps on some rows by each rate, all from the same weights; return new ones of each.

    Side by side on accelerators. On CPUs one after the other, which takes half the time: two rates
    took 3.0 s in one program and 0.75 s each alone (ResNet of the zoo, two cores), because
    convolutions whose kernels differ within a batch are slow there.
    """
    if len(rates) > 1 and platform_of() == "cpu":
        return [
            train(
                model, weights, rest, how, inputs, targets, rows, recipe, (rate,), steps=steps,
                regression=regression, seed=seed,
            )[0]
            for rate in rates
        ]  # fmt: skip
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(rates)), weights)
    state = (stacked, jax.vmap(optimiser(recipe.decay).init)(stacked))
    curve = schedule(1.0, steps, recipe.warmup)
    images = isinstance(inputs, np.ndarray | jax.Array) and inputs.ndim == 4
    options = (regression, recipe.shift if images else 0, recipe.flip and images)
    keys = jax.random.split(jax.random.key(seed), steps)
    for i, chosen in enumerate(batches(len(rows), recipe.batch, steps, seed)):
        batch = rows[chosen]
        state = _step(
            model.apply, model.layers[0], how, options, state, rest,
            jax.tree.map(lambda x, batch=batch: x[batch], inputs), targets[batch], keys[i],
            np.float32(curve[i]) * np.asarray(rates, np.float32), np.float32(recipe.decay),
        )  # fmt: skip
    return [jax.tree.map(lambda x, r=r: x[r], state[0]) for r in range(len(rates))]
