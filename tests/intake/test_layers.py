"""Layers of one model joined."""

from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError, join_layers


def test_each_layer_weighs_the_same_whatever_its_scale_and_width() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(50, 3)), 1e3 * rng.normal(size=(50, 8)) + 1e5
    joined = join_layers({"first": first, "second": second})
    assert joined.shape == (50, 11)
    np.testing.assert_allclose(joined.mean(0), 0, atol=1e-9)
    for part in (joined[:, :3], joined[:, 3:]):
        assert (part**2).sum() / 50 == pytest.approx(1)
    np.testing.assert_allclose(join_layers([first, second]), joined)
    np.testing.assert_allclose(join_layers([first, second, 2 * first + 1]), joined)


def test_weights_and_layers_that_do_not_vary() -> None:
    """A row of weight 2 is one written twice; one of weight 0 may hold anything."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 4))
    weights = np.arange(20) % 3
    repeated = join_layers([np.repeat(x, weights, axis=0)])
    spoiled = np.where((weights > 0)[:, None], x, np.nan)
    joined = join_layers([spoiled, np.full((20, 2), 1e8 / 3)], weights)
    np.testing.assert_allclose(np.repeat(joined, weights, axis=0), repeated, rtol=1e-12)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({}, "no layers"),
        ({"a": np.ones((3, 2))}, "no layer varies"),
        ({"a": np.ones(3)}, "layer a has shape"),
        ({"a": np.eye(3), "b": np.eye(4)}, "layer b has 4 rows"),
        ({"a": np.eye(3), "b": np.diag([1, np.nan, 1.0])}, "layer b contains NaN .* row 1"),
    ],
)
def test_bad_layers_are_named(layers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        join_layers(layers)


def test_rank_joins_the_layers_of_a_model_for_the_probe_alone() -> None:
    rng = np.random.default_rng(2)
    y = np.arange(90) % 3
    early, late = rng.normal(size=(90, 6)), rng.normal(size=(90, 5))
    early[:, 0] += 3 * y
    models: dict[str, Any] = {
        "a": {"layers": {"early": early, "late": late}},
        "b": late + early[:, :5],
    }
    ranking = jaxte.rank(models, y, metrics=["ridge_probe", "logme"])
    joined = join_layers([early, late])
    alone: dict[str, Any] = {"metrics": ["ridge_probe", "logme"]}
    expected = jaxte.rank({"joined": joined, "late": late, "b": models["b"]}, y, **alone)
    for metric, name in (("ridge_probe", "joined"), ("logme", "late")):
        assert ranking.score("a", metric) == pytest.approx(expected.score(name, metric), rel=1e-6)
        assert ranking.score("b", metric) == pytest.approx(expected.score("b", metric), rel=1e-6)
    assert any("all layers of a;" in note for note in ranking.notes)
    named = {"a@early": early, "a@late": late, "b": models["b"]}
    assert jaxte.rank(named, y, layers="joined", **alone) == ranking
    bad = jaxte.rank({**models, "c": {"layers": {"early": early[:5]}, "features": late}}, y)
    assert "its layers have 5 rows" in bad.status("c", "ridge_probe")
