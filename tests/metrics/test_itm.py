"""ITM against its replica in NumPy, from the same random numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Array, blobs

from jaxte import InputError
from jaxte.metrics import itm


def shuffled(key: jax.Array, count: int) -> Array:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(count))
    return np.argsort(np.asarray(jax.vmap(jax.random.bits)(keys)), kind="stable")


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Replica:
    """The network, its gradient by hand, and AdamW."""

    def __init__(self, key: jax.Array, d: int, occurrence: Array) -> None:
        def one(row: int, column: int) -> float:
            own = jax.random.fold_in(jax.random.fold_in(key, row), column)
            return float(jax.random.uniform(own, (), jnp.float32, -1, 1))

        after, k = 1 << 30, len(occurrence)
        rows = [*range(d), after, after + 1, *(after + 2 + occurrence).tolist()]
        drawn = np.array([[one(row, column) for column in occurrence.tolist()] for row in rows])
        first, second = drawn[: d + 1] / np.sqrt(d), drawn[d + 1 :] / np.sqrt(k)
        self.theta = [first[:d], first[d], second[1:], second[0]]
        self.moments = [(np.zeros_like(one), np.zeros_like(one)) for one in self.theta]
        self.steps = 0

    def forward(self, x: Array, y: Array) -> tuple[Array, ...]:
        kernel, bias, head, head_bias = self.theta
        raw = x @ kernel + bias
        length = np.linalg.norm(raw, axis=1, keepdims=True)
        z = raw / length
        moved = z - 0.5 / len(x) * z @ (z.T @ (z - y))
        return length, z, moved, moved @ head + head_bias

    def step(self, x: Array, y: Array) -> None:
        length, z, moved, logits = self.forward(x, y)
        g = (softmax(logits) - y) / len(x)
        along = g @ self.theta[2].T
        along = along - 0.5 / len(x) * z @ (z.T @ along)
        along = (along - z * (z * along).sum(axis=1, keepdims=True)) / length
        slopes = x.T @ along, along.sum(axis=0), moved.T @ g, g.sum(axis=0)
        rate = 5e-3 * (1 - self.steps / 10_000)
        self.steps += 1
        for i, slope in enumerate(slopes):
            m, v = self.moments[i]
            m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
            self.moments[i] = m, v
            m, v = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
            self.theta[i] = self.theta[i] * (1 - 0.01 * rate) - rate * m / (np.sqrt(v) + 1e-8)


def replica(x: Array, labels: Array, seed: int, rounds: int) -> float:
    split, first, batches = jax.random.split(jax.random.key(seed), 3)
    n, y = len(x), np.eye(labels.max() + 1)[labels]
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    order, trained = shuffled(split, n), 4 * n // 5
    seen = list(dict.fromkeys(labels))
    network = Replica(first, x.shape[1], np.array([seen.index(c) for c in range(len(seen))]))
    todo: list[Array] = []
    best, epoch = 0.0, 0
    for index in range(100 * rounds):
        if not todo:
            rows = order[shuffled(jax.random.fold_in(batches, epoch), trained)]
            todo, epoch = [rows[i : i + 256] for i in range(0, trained, 256)], epoch + 1
        batch = todo.pop(0)
        network.step(x[batch], y[batch])
        if index % 100 == 99:
            own = order[trained:]
            told = network.forward(x[own], y[own])[-1].argmax(axis=1)
            best = max(best, float((told == labels[own]).mean()))
    return best


@pytest.mark.parametrize(("n", "rounds"), [(120, 3), (400, 1)], ids=["one-batch", "two-batches"])
def test_itm_is_its_replica(n: int, rounds: int, x64: None) -> None:
    x, y = blobs(n, 6, separation=1.0)
    x = x * np.logspace(-3, 3, 6)
    score = float(itm(x, y, rounds=rounds, key=2))
    assert 0.4 < score < 1
    assert score == pytest.approx(replica(x, y, 2, rounds), abs=1e-12)


def test_a_pool_under_vmap_is_scored_one_by_one() -> None:
    x, y = blobs(300, 5, separation=0.5)
    pool = jnp.stack([jnp.asarray(x), jnp.asarray(x**3), jnp.asarray(np.abs(x))])

    def score(features: jax.Array) -> jax.Array:
        return itm(features, y, num_classes=4, rounds=1)

    single = [float(jax.jit(score)(one)) for one in pool]
    assert len(set(single)) == 3
    np.testing.assert_allclose(jax.jit(jax.vmap(score))(pool), single, atol=0.02)  # one row


def test_draws_follow_the_key_and_options_are_checked() -> None:
    x, y = blobs(120, 6, separation=0.7)
    scores = [float(itm(x, y, rounds=1, key=key)) for key in (None, 0, jax.random.key(0), 1, 2)]
    assert scores[0] == scores[1] == scores[2]
    assert len(set(scores)) > 1
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("rounds is 0", {"rounds": 0}),
        ("key", {"key": "a"}),
    ]
    for message, options in wrong:
        with pytest.raises(InputError, match=message):
            itm(x, y, **options)
