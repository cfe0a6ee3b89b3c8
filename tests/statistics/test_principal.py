"""Features in principal axes: every score that does not depend on the axes is the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxte.metrics import REGISTRY
from jaxte.statistics import Sample, Statistics
from jaxte.statistics.principal import Relabelled, permuted, principal_of

# Between them they read all that `Relabelled` makes in its own way.
METRICS = ("logme", "hscore", "sfda", "vci", "ridge_probe")


def assert_scores_agree(name: str, sample: Sample, num_classes: int | None) -> None:
    """Of the features as they are and of those in principal axes."""
    metric = REGISTRY[name]
    options = metric.all_options({})

    @jax.jit
    def expected(sample: Sample) -> jax.Array:
        return metric.evaluate(Statistics(sample, num_classes=num_classes), options)["score"]

    @jax.jit
    def score(sample: Sample) -> jax.Array:
        own = Relabelled(principal_of(sample), sample.targets, num_classes)
        return metric.evaluate(own, options)["score"]

    assert score(sample) == pytest.approx(float(expected(sample)), rel=1e-8)


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_those_of_the_features_themselves(name: str) -> None:
    """Wider than long, far from 0, with rows that are absent or count twice."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 32)) + 50
    x[:, 0] += np.arange(24) % 3
    weights = rng.integers(0, 3, 24).astype(float)
    with jax.enable_x64(True):
        sample = Sample(jnp.array(x), jnp.arange(24) % 3, jnp.array(weights))
        assert_scores_agree(name, sample, 3)


def test_regression_in_principal_axes() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 5)) + 3, rng.normal(size=(30, 2))
    y[:, 0] += x[:, 1]
    with jax.enable_x64(True):
        sample = Sample(jnp.array(x), jnp.array(y))
        for name in ("logme", "hscore"):
            assert_scores_agree(name, sample, None)


def test_permuting_leaves_absent_rows_where_they_are() -> None:
    targets, weights = jnp.array([0, 1, 2, 3, 9, 9]), jnp.array([1.0, 2, 1, 1, 0, 0])
    order = jnp.array([3, 2, 1, 0, 0, 5], jnp.uint32)
    assert permuted(targets, weights, order).tolist() == [3, 2, 1, 0, 9, 9]
    assert permuted(targets, None, order).tolist() == [3, 9, 2, 1, 0, 9]
