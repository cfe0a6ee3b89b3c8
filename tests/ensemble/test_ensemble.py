"""Ensembles: the steps of the selection, by other ways to the same numbers."""

from functools import partial
from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import (
    Array,
    Case,
    Problem,
    blobs,
    compiled,
    counted_compilations,
    padded_to,
    regression,
)

import jaxte
from jaxte import InputError
from jaxte.ensemble import complementarity, complementary, greedy
from jaxte.metrics import REGISTRY, get_metric
from jaxte.statistics import Sample, Statistics


def pool(n: int = 60) -> tuple[dict[str, Array], Array]:
    """Two models that see the same, one that sees another class, and noise; widths differ."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 4
    one, other = (signal * (y == c)[:, None] * np.eye(1, 6) for c, signal in ((0, 3.5), (1, 2.5)))
    models = {
        "one": one + rng.normal(size=(n, 6)),
        "same": 100 * (one[:, :5] + rng.normal(size=(n, 5))),
        "other": 50 + other[:, :4] + rng.normal(size=(n, 4)),
        "noise": rng.normal(size=(n, 3)),
    }
    return models, y


@partial(jax.jit, static_argnames="num_classes")
def fisher_coordinates(
    x: jax.Array, y: jax.Array, weights: jax.Array, width: jax.Array, *, num_classes: int
) -> jax.Array:
    statistics = Statistics(Sample(x, y, weights, width), num_classes=num_classes)
    return complementarity.fisher_coordinates(statistics)


@pytest.mark.parametrize("rows", [60, 9], ids=["by columns", "by rows"])
@pytest.mark.parametrize("metric", ["ridge_probe", "logme", "sfda"])
def test_greedy_takes_the_best_of_all_at_each_step(metric: str, rows: int) -> None:
    """Each score is that of the joined features, as if they were one model's.

    Those are padded to one shape, so that a metric compiles once.
    """
    models, y = pool(rows)
    y = y.astype(np.int32)
    weights = np.arange(rows) % 5 > 0
    chosen = greedy(models, y, size=2, metric=metric, weights=weights, precision="float64")
    members: tuple[str, ...] = ()
    for step, member, score in zip(chosen.candidates, chosen.members, chosen.scores, strict=True):
        assert set(step) == set(models) - set(members)
        for name, value in step.items():
            joined = jaxte.join_layers([models[one] for one in (*members, name)], weights)
            with jax.enable_x64(True):
                padded = padded_to((64, 11), Problem(joined, y), weights)
                expected = float(compiled(Case(metric), 4)(*padded))
            assert value == pytest.approx(expected, rel=1e-6)
        assert (max(step.values()), step[member]) == (score, score)
        members = (*members, member)


def test_greedy_prefers_what_adds_to_what_is_good_alone() -> None:
    models, y = pool(200)
    for metric in ("ridge_probe", "logme"):
        chosen = greedy(models, y, size=4, metric=metric)
        assert chosen.members[0] in ("one", "same")
        assert chosen.members[1] == "other"
        assert chosen.members[3] == "noise"
        assert chosen.scores[3] < chosen.scores[2]


def test_all_steps_share_a_program() -> None:
    models, y = pool(61)
    with counted_compilations() as names:
        greedy(models, y, size=3, metric="hscore")
    assert names.count("jit(_scores)") + names.count("_scores") == 1


def test_greedy_of_a_regression_with_options() -> None:
    x, y = regression(50, 9, outputs=2)
    halves = {"left": x[:, :4], "right": x[:, 4:], "noise": x[::-1, :3]}
    chosen = greedy(halves, y, size=2, metric="knn", options={"k": 3}, precision="float64")
    assert set(chosen.members) == {"left", "right"}
    joined = jaxte.join_layers([halves[name] for name in chosen.members])
    with jax.enable_x64(True):
        assert chosen.scores[1] == pytest.approx(float(REGISTRY["knn"].function(joined, y, k=3)))


def test_complementarity_by_the_rows_that_are_never_made() -> None:
    models, y = pool()
    chosen = complementary(models, y, size=4, ratio=0.3, precision="float64")
    (values,) = chosen.candidates
    rows, sfda = [], []
    with jax.enable_x64(True):
        for x in models.values():
            joined = Problem(jaxte.join_layers([x]), y.astype(np.int32))
            arguments = padded_to((64, 11), joined)
            z = np.asarray(fisher_coordinates(*arguments, num_classes=4))
            products = z @ z.T
            rows.append(products.ravel() / np.linalg.norm(products))
            sfda.append(compiled(Case("sfda"), 4)(*arguments))
    norm = np.linalg.norm(rows, "nuc")
    added = [norm - np.linalg.norm(np.delete(rows, m, axis=0), "nuc") for m in range(4)]
    expected = 0.3 * np.array(sfda, float) + 0.7 * np.array(added)
    np.testing.assert_allclose(list(values.values()), expected, rtol=1e-6)
    assert chosen.members == tuple(np.array(list(models))[np.argsort(-expected)])


def test_fisher_coordinates_are_those_of_discriminant_analysis() -> None:
    """Products of samples in the space where the within-class scatter is the identity."""
    x, y = blobs(60, 5, classes=3)
    with jax.enable_x64(True):
        arguments = padded_to((64, 11), Problem(x, y))
        z = np.asarray(fisher_coordinates(*arguments, num_classes=4))
    means = np.stack([x[y == c].mean(axis=0) for c in range(3)])
    within = (x - means[y]).T @ (x - means[y]) / len(x)
    shrinkage = oracles.sfda_shrinkage(within)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / 5 * np.eye(5)
    values, axes = np.linalg.eigh(within)
    white = axes / np.sqrt(values)
    span = np.linalg.svd((means - x.mean(axis=0)) @ white)[2][:2]
    expected = (x - x.mean(axis=0)) @ white @ span.T
    np.testing.assert_allclose(z[:60] @ z[:60].T, expected @ expected.T, rtol=1e-8, atol=1e-10)
    assert np.all(z[60:] == 0)  # rows of weight 0


def test_a_copy_adds_nothing() -> None:
    models, y = pool()
    models = {"one": models["one"], "copy": 3 * models["one"], "other": models["other"]}
    chosen = complementary(models, y, size=1, ratio=0.0)
    assert chosen.members == ("other",)
    assert chosen.candidates[0]["one"] == pytest.approx(chosen.candidates[0]["copy"], rel=1e-4)


def test_bad_pools() -> None:
    models, y = pool()
    for select in (greedy, complementary):
        with pytest.raises(InputError, match="an ensemble of 5"):
            select(models, y, size=5)
        with pytest.raises(InputError, match="size"):
            select(models, y, size=0)
        with pytest.raises(InputError, match="two models are called 1"):
            select({1: models["one"], "1": models["other"]}, y)  # type: ignore[dict-item]
        whole: Any = 2.0
        assert len(select(models, y, size=whole).members) == 2
        with pytest.raises(InputError, match="short has 7 rows"):
            select({**models, "short": models["one"][:7]}, y)
        with pytest.raises(InputError, match="bad: features contain NaN"):
            select({**models, "bad": models["one"] * np.nan}, y)
        with pytest.raises(InputError, match="rows: one label each"):
            select(models, y[:-1])
    with pytest.raises(InputError, match="ratio"):
        complementary(models, y, ratio=2.0)
    with pytest.raises(InputError, match="unknown metric"):
        greedy(models, y, metric="best")
    with pytest.raises(InputError, match="function of features alone"):
        greedy(models, y, metric=get_metric(lambda x, y: 1.0))
