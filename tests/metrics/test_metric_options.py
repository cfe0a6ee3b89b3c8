"""Options that cannot be: one line that names them, before any work."""

from typing import Any

import jax
import numpy as np
import pytest
from helpers import blobs

import jaxte
from jaxte import InputError, metrics
from jaxte.metrics import REGISTRY

X, Y = blobs(40, 6, separation=1.0)
NO_FOLDS: tuple[Any, ...] = ([0, 1], [], (1,), (), {}, "3", True, 0, 1, -1, 2.5, 10**30)
NO_KEYS: tuple[Any, ...] = ("a", 1.5, True, [1, 2], 10**30, np.zeros(3), {})


def flags() -> list[tuple[str, str]]:
    """Every option that is True or False."""
    named = [
        (metric.name, name)
        for metric in REGISTRY.values()
        for name, parameter in metric.parameters.items()
        if isinstance(parameter.default, bool)
    ]
    return [*named, ("sfda", "double_softmax"), ("sfda", "log_score")]


@pytest.mark.parametrize(("metric", "option"), flags())
@pytest.mark.parametrize("value", ["yes", 0, 1.5, [True], np.array([1.0, 2.0])], ids=str)
def test_a_flag_is_true_or_false(metric: str, option: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{option} is .* True or False"):
        REGISTRY[metric].function(abs(X), Y, **{option: value})


@pytest.mark.parametrize("metric", ["nleep", "qda", "linear_probe"])
def test_folds_and_keys(metric: str) -> None:
    for folds in NO_FOLDS:
        with pytest.raises(InputError, match="folds"):
            REGISTRY[metric].function(X, Y, folds=folds)
    for key in NO_KEYS:
        with pytest.raises(InputError, match="key is"):
            REGISTRY[metric].function(X, Y, key=key)
    with pytest.raises(InputError, match="key is"):
        jaxte.rank({"m": X}, Y, metrics=metric, options={metric: {"key": "a"}})


def test_whole_numbers_of_numpy_and_whole_floats() -> None:
    probe: Any = metrics.linear_probe
    parc: Any = metrics.parc
    expected = float(probe(X, Y, folds=3, key=1))
    assert float(probe(X, Y, folds=np.int64(3), key=np.int32(1))) == expected
    assert float(probe(X, Y, folds=3.0, key=jax.random.key(1))) == expected
    assert float(parc(X, Y, num_components=4.0)) == float(parc(X, Y, num_components=4))


def test_whole_numbers_beyond_those_of_arrays() -> None:
    transrate: Any = metrics.transrate
    assert float(transrate(X, Y, epsilon=10**30)) == float(transrate(X, Y, epsilon=1e30))
    options = {"transrate": {"epsilon": 10**30}}
    assert jaxte.rank({"m": X}, Y, metrics="transrate", options=options).status("m", "transrate")
    with pytest.raises(InputError, match="epsilon is 1000"):
        transrate(X, Y, epsilon=10**400)


def test_classifiers_that_cannot_be() -> None:
    holed = np.ones((4, 6))
    holed[1, 2] = np.nan
    with pytest.raises(InputError, match="classifier contains NaN"):
        metrics.neural_collapse(X, Y, classifier=holed)
    with pytest.raises(InputError, match="bias contains NaN"):
        metrics.neural_collapse(X, Y, classifier=np.ones((4, 6)), bias=holed[1, :4])
    with pytest.raises(InputError, match="a bias, but no classifier"):
        metrics.neural_collapse(X, Y, bias=np.ones(4))
    inside = jax.jit(lambda w: metrics.neural_collapse(X, Y, num_classes=4, classifier=w))(holed)
    assert np.isnan(inside.nc3)
    assert np.isnan(inside.nc4)
    assert np.isfinite(inside.nc1)


@pytest.mark.parametrize("value", ["text", {}, object(), b"a"], ids=lambda v: type(v).__name__)
def test_arrays_among_the_options(value: Any) -> None:
    with pytest.raises(InputError, match="label_embeddings"):
        metrics.emms(X, Y, label_embeddings=value)
    with pytest.raises(InputError, match="classifier"):
        metrics.neural_collapse(X, Y, classifier=value)
    with pytest.raises(InputError, match="features"):
        metrics.score_pool("logme", value, Y)


def test_unknown_options_and_numbers_of_components() -> None:
    for value in (True, 10**30):
        with pytest.raises(InputError, match="num_components"):
            metrics.disco(X, Y, num_components=value)
    with pytest.raises(InputError, match="no option 'nope'"):
        jaxte.ensemble.greedy({"a": X, "b": 2 * X}, Y, size=2, options={"nope": 1})


def test_weights_that_are_no_numbers() -> None:
    with pytest.raises(InputError, match="NaN"):
        jaxte.baselines.weight_spectrum({"kernel": np.full((20, 20), np.nan)})
