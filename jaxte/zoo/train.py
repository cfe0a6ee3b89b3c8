"""Pre-training, full fine-tuning and the linear probe, with Optax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from scipy.special import log_softmax

from jaxte.zoo.network import Params, forward, normalise
from jaxte.zoo.sources import Part
from jaxte.zoo.specs import FineTune, Probe

Normalisation = Mapping[str, Any]  # {"mean": 3 floats, "std": 3 floats}, of images scaled to 0..1


class Outcome(NamedTuple):
    """Accuracy and mean log loss on the images that were not trained on."""

    accuracy: float
    loss: float


def optimiser(decay: jax.Array | float) -> optax.GradientTransformation:
    """AdamW of clipped gradients, up to its learning rate."""
    # the learning rate is applied by the caller, so that one compilation serves every schedule
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.add_decayed_weights(decay)
    )


def update(params: Params, state: Any, grads: Params, lr: Any, decay: Any) -> tuple[Params, Any]:
    """Take one step; return new parameters and state."""
    updates, state = optimiser(decay).update(grads, state, params)
    return jax.tree.map(lambda p, u: p - lr * u, params, updates), state


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def schedule(peak: float, steps: int, warmup: float) -> np.ndarray:
    """Linear warm-up over the first part of the steps, then half a cosine down to zero."""
    rise = min(max(1, int(warmup * steps)), steps - 1) if warmup else 0
    curve = optax.warmup_cosine_decay_schedule(0.0 if rise else peak, peak, rise, steps)
    # from the second point on: the first step of a warm-up would have rate zero
    return np.asarray(curve(np.arange(1, steps + 1) if rise else np.arange(steps)), np.float32)


def batches(n: int, batch: int, steps: int, seed: int) -> np.ndarray:
    """Indices [steps, batch], reshuffled each epoch, the ragged end of an epoch left out."""
    rng = np.random.default_rng(seed)
    batch = min(batch, n)
    rows: list[np.ndarray] = []
    while len(rows) < steps:
        order = rng.permutation(n)
        rows.extend(order[: n // batch * batch].reshape(-1, batch))
    return np.stack(rows[:steps])


def augment(key: jax.Array, images: jax.Array, shift: int, flip: bool) -> jax.Array:
    """Shift images by up to `shift` pixels, and mirror each by chance if `flip`."""
    if shift:
        key, use = jax.random.split(key)
        pad = ((0, 0), (shift, shift), (shift, shift), (0, 0))
        corners = jax.random.randint(use, (len(images), 2), 0, 2 * shift + 1)

        def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
            start = (corner[0], corner[1], 0)
            return jax.lax.dynamic_slice(image, start, images.shape[1:])

        images = jax.vmap(crop)(jnp.pad(images, pad), corners)
    if flip:
        mirrored = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images


def _classification_loss(
    network: Any, key: jax.Array, data: tuple[jax.Array, ...], normal: Any, shift: int, flip: bool
) -> jax.Array:
    images, labels = data
    return _cross_entropy(network(normalise(augment(key, images, shift, flip), *normal)), labels)


@partial(
    jax.jit,
    static_argnames=("graphdef", "loss", "options"),
    donate_argnames=("params", "state"),
)
def _step(
    graphdef: nnx.GraphDef[Any],
    params: Params,
    state: Any,
    key: jax.Array,
    data: tuple[jax.Array, ...],
    normal: tuple[jax.Array, jax.Array],
    constants: tuple[jax.Array, ...],
    lr: jax.Array,
    decay: jax.Array,
    *,
    loss: Callable[..., jax.Array],
    options: tuple[Any, ...],
) -> tuple[Params, Any, jax.Array]:
    def of_params(params: Params) -> jax.Array:
        return loss(nnx.merge(graphdef, params), key, data, normal, *constants, *options)

    value, grads = jax.value_and_grad(of_params)(params)
    params, state = update(params, state, grads, lr, decay)
    return params, state, value


def optimise(
    graphdef: nnx.GraphDef[Any],
    params: Params,
    normal: Normalisation,
    data: tuple[np.ndarray, ...],
    *,
    loss: Callable[..., jax.Array],
    constants: tuple[Any, ...] = (),
    options: tuple[Any, ...] = (),
    steps: int,
    batch: int,
    lr: float,
    warmup: float,
    decay: float,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> Params:
    """Train all parameters by a loss; return the new ones, the old ones stay valid.

    The loss is called with the network, a key, a batch of data, the normalisation, constant arrays
    and options, of which each has a program of its own.
    """
    params = jax.tree.map(jnp.array, params)
    state = optimiser(decay).init(params)
    mean, std = (jnp.asarray(normal[key], jnp.float32) for key in ("mean", "std"))
    rates = schedule(lr, steps, warmup)
    keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), max(steps, 1))))
    for i, rows in enumerate(batches(len(data[0]), batch, steps, seed)):
        params, state, value = _step(
            graphdef, params, state, jax.random.wrap_key_data(keys[i]),
            tuple(array[rows] for array in data), (mean, std), constants, rates[i],
            np.float32(decay), loss=loss, options=options,
        )  # fmt: skip
        if progress is not None and (i + 1) % 500 == 0:
            progress(f"step {i + 1} of {steps}, loss {float(value):.3f}")
    return params


def train(
    graphdef: nnx.GraphDef[Any], params: Params, normal: Normalisation, data: Part, *,
    shift: int, flip: bool, **settings: Any,
) -> Params:  # fmt: skip
    """Train a classifier on prepared images, as `optimise` does by its settings."""
    return optimise(
        graphdef, params, normal, data, loss=_classification_loss, options=(shift, flip), **settings
    )


def score(logits: np.ndarray, labels: np.ndarray) -> Outcome:
    """Return accuracy and mean log loss of logits."""
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    return Outcome(
        float((logits.argmax(1) == labels).mean()),
        float(-log_p[np.arange(len(labels)), labels].mean()),
    )


def finetune(
    graphdef: nnx.GraphDef[Any],
    params: Params,
    normal: Normalisation,
    data: Part,
    held_out: Part,
    *,
    recipe: FineTune,
    lr: float,
    seed: int,
) -> Outcome:
    """Fine-tune every parameter on `data`, from a head drawn from `seed`; score on `held_out`."""
    kernel = nnx.to_pure_dict(params)["head"]["kernel"]
    fresh = jax.random.normal(jax.random.key(seed), kernel.shape) / kernel.shape[0] ** 0.5
    params = jax.tree.map(lambda leaf: leaf, params)
    nnx.replace_by_pure_dict(
        params, {"head": {"kernel": fresh, "bias": jnp.zeros(kernel.shape[1])}}
    )
    batch = min(recipe.batch, len(data.labels))
    params = train(
        graphdef, params, normal, data,
        steps=recipe.epochs * (len(data.labels) // batch), batch=batch, lr=lr,
        warmup=recipe.warmup, decay=recipe.weight_decay, shift=recipe.shift, flip=False, seed=seed,
    )  # fmt: skip
    return score(forward(graphdef, params, normal, held_out.images), held_out.labels)


@partial(jax.jit, static_argnames="loss")
def fit_linear(
    features: jax.Array, targets: jax.Array, start: Params, rows: jax.Array, rates: jax.Array,
    decay: jax.Array, options: tuple[jax.Array, ...] = (), *, loss: Callable[..., jax.Array],
) -> Params:  # fmt: skip
    """Train a linear head on frozen features by a loss of outputs and targets."""

    def step(carry: Any, now: Any) -> tuple[Any, None]:
        head, state = carry
        index, lr = now

        def of_head(head: Params) -> jax.Array:
            outputs = features[index] @ head["kernel"] + head["bias"]
            return loss(outputs, targets[index], *options)

        return update(head, state, jax.grad(of_head)(head), lr, decay), None

    carry, _ = jax.lax.scan(step, (start, optimiser(decay).init(start)), (rows, rates))
    return carry[0]


def probe(data: Part, held_out: Part, *, recipe: Probe, lr: float, seed: int) -> Outcome:
    """Train a linear classifier on frozen features (`Part.images` holds them); score it."""
    mean, std = data.images.mean(0), data.images.std(0) + 1e-6
    classes = int(max(data.labels.max(), held_out.labels.max())) + 1
    batch = min(recipe.batch, len(data.labels))
    steps = recipe.epochs * (len(data.labels) // batch)
    kernel = jax.random.normal(jax.random.key(seed), (data.images.shape[1], classes)) * 0.01
    fitted = fit_linear(
        (data.images - mean) / std, data.labels,
        {"kernel": kernel, "bias": jnp.zeros(classes)},
        batches(len(data.labels), batch, steps, seed),
        schedule(lr, steps, recipe.warmup), np.float32(recipe.weight_decay), loss=_cross_entropy,
    )  # fmt: skip
    logits = (held_out.images - mean) / std @ np.asarray(fitted["kernel"])
    return score(logits + np.asarray(fitted["bias"]), held_out.labels)


def split_classes(
    labels: np.ndarray, per_class: int | float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return shuffled indices of `per_class` items (or that share) of each class, and the rest."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    chosen = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        count = round(per_class * len(members)) if per_class < 1 else int(per_class)
        chosen.append(members[:count])
    first = rng.permutation(np.concatenate(chosen))
    return first, order[~np.isin(order, first)]


def measure(
    run: Callable[[Part, Part, float, int], Outcome],
    train_part: Part,
    test_part: Part,
    *,
    lrs: tuple[float, ...],
    validation: float,
    seeds: int,
) -> dict[str, Any]:
    """Choose the learning rate on a part of the train part, then test once per seed.

    The best validation accuracy wins, the lower loss breaks a tie; the test part is scored only
    with the rate chosen.
    """
    validation_rows, train_rows = split_classes(train_part.labels, validation, seed=0)

    def part(rows: np.ndarray) -> Part:
        return Part(train_part.images[rows], train_part.labels[rows])

    tried = {lr: run(part(train_rows), part(validation_rows), lr, 0) for lr in lrs}
    lr = max(tried, key=lambda rate: (tried[rate].accuracy, -tried[rate].loss))
    return {
        "lr": lr,
        "validation": {str(rate): outcome.accuracy for rate, outcome in tried.items()},
        "test": [run(train_part, test_part, lr, seed).accuracy for seed in range(seeds)],
    }
