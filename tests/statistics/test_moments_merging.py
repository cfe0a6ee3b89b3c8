"""Moments keep their precision whatever JAX computes in, and merge only with their like."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte import InputError, moments

N, D, C = 96, 6, 4


def test_float64_moments_stay_so_whatever_jax_computes_in() -> None:
    rng = np.random.default_rng(0)
    x, y = 1e3 + rng.normal(size=(N, D)), np.arange(N) % C
    with jax.enable_x64(True):
        first, second = (
            moments.update(moments.init(D, num_classes=C), *part)
            for part in ((x[:50], y[:50]), (x[50:], y[50:]))
        )
        expected = float(jaxte.metrics.logme_from_moments(moments.merge(first, second)))
    joined = moments.merge(first, second)
    further = moments.update(first, x[50:], y[50:])
    for state in (joined, further):
        assert {part.dtype for part in (state.scatter, state.means, state.counts)} == {
            np.dtype("float64")
        }
        result = float(jaxte.metrics.logme_from_moments(state))
        assert result == pytest.approx(expected, rel=1e-12)
    single = moments.update(moments.init(D, num_classes=C), x[:50], y[:50])
    assert single.scatter.dtype == jnp.float32
    assert moments.merge(single, second).scatter.dtype == np.dtype("float64")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (moments.init(5, num_classes=3), "4 features in 3 classes .* 5 features in 3 classes"),
        (moments.init(4, num_classes=2), "in 3 classes .* in 2 classes"),
        (moments.init(4, num_targets=1), "3 classes .* 4 features and 1 float targets"),
        (moments.init(4, num_classes=3, class_counts=np.ones(3)), "with class_counts"),
    ],
)
def test_moments_of_different_kinds_do_not_merge(other: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        moments.merge(moments.init(4, num_classes=3), other)
