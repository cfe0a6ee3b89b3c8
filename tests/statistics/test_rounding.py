"""What is rounding noise counts as zero: right values where features degenerate, by every route."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_perturb
import pytest
from helpers import Array

import jaxte
from jaxte import moments, perturb
from jaxte.metrics import REGISTRY

N, D, C = 96, 6, 4  # one shape for most, so that all share its compilations
METRICS = ("logme", "sfda", "face")
# "weights" calls the function itself, "memory" and "streamed" what ranks
ROUTES = ("memory", "streamed", "weights", "moments")
SFDA_ROUTES = ROUTES[:-1]  # moments alone are not enough
each_route = pytest.mark.parametrize("route", ROUTES)


def labels(n: int = N, classes: int = C, seed: int = 0) -> Array:
    """Classes of unequal size."""
    y = np.minimum(np.random.default_rng(seed).geometric(0.45, n) - 1, classes - 1)
    y[:classes] = np.arange(classes)
    return y.astype(np.int32)


def cut(array: Array) -> list[Array]:
    return np.split(array, [len(array) // 3, len(array) // 2])


def score(route: str, metric: str, x: Array, y: Array, precision: str, **options: Any) -> float:
    """One score by one route; NaN where it has none."""
    if route in ("memory", "streamed"):
        source = x if route == "memory" else cut(x)
        result = jaxte.rank(
            {"m": source}, y, metrics=metric, precision=precision, options={metric: options}
        )
        return result.score("m", metric)
    with jax.enable_x64(precision == "float64"):
        x = np.asarray(x, precision)
        if route == "moments":
            of_moments = REGISTRY[metric].from_moments
            if of_moments is None:
                pytest.skip("not a metric of moments alone")
            counts = np.bincount(y).astype(float)
            state = moments.init(x.shape[1], num_classes=len(counts), class_counts=counts)
            halves = [moments.update(state, *part) for part in zip(cut(x), cut(y), strict=True)]
            for other in halves[1:]:
                halves[0] = moments.merge(halves[0], other)
            return float(of_moments(halves[0], **options))
        # as many rows again that do not count, and half-rows twice
        x, y = np.concatenate([x, x, x[::-1] + 3]), np.concatenate([y, y, y])
        weights = np.repeat([0.5, 0.5, 0.0], len(y) // 3)
        return float(REGISTRY[metric].function(x, y, weights=weights, **options))


def tolerance(precision: str) -> dict[str, Any]:
    return {"rel": 1e-9} if precision == "float64" else {"rel": 2e-4, "abs": 2e-5}


# --- features that say nothing --------------------------------------------------------------------

VECTOR = np.array([0.1, -3.0, 1e4, 7.7, 1e-5, 0.3])
DEAD: dict[str, Array] = {
    "zero": np.zeros((N, D)),
    "constant": np.tile(VECTOR, (N, 1)),
    "rectified": np.tile(np.maximum(VECTOR, 0), (N, 1)),
    "last-bit": np.nextafter(
        np.tile(VECTOR, (N, 1)).astype(np.float32),
        np.float32(1e9) * np.random.default_rng(0).choice([-1, 1], (N, 1)).astype(np.float32),
    ),
}


@each_route
def test_a_dead_model_has_what_the_labels_alone_give(route: str, precision: str) -> None:
    y = labels()
    prior = np.sum((np.bincount(y) / N) ** 2)
    for name in ("zero", "constant", "rectified"):
        x = DEAD[name]
        assert np.isnan(score(route, "face", x, y, precision))
        if route != "moments":
            assert score(route, "sfda", x, y, precision) == pytest.approx(prior, rel=1e-6)
        expected = oracles.logme(np.full((N, 1), np.linalg.norm(x[0])), y)
        result = score(route, "logme", x, y, precision)
        assert result == pytest.approx(expected, **tolerance(precision))


@pytest.mark.parametrize("route", ["memory", "streamed"])
def test_rows_that_differ_in_the_last_bit_are_the_same(route: str) -> None:
    y, x = labels(), DEAD["last-bit"]
    assert np.ptp(x, axis=0).any()
    assert np.isnan(score(route, "face", x, y, "float32"))
    prior = np.sum((np.bincount(y) / N) ** 2)
    assert score(route, "sfda", x, y, "float32") == pytest.approx(prior, rel=1e-6)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_dead_model_says_so(streamed: bool) -> None:
    y, rng = labels(), np.random.default_rng(0)
    pool: dict[str, Any] = {"good": rng.normal(size=(N, D)) + 2 * np.eye(C, D)[y]}
    pool["dead"] = cut(DEAD["constant"]) if streamed else DEAD["constant"]
    result = jaxte.rank(pool, y, metrics=METRICS)
    for metric in METRICS:
        assert result.best(metric) == "good"
        (note,) = [n for n in result.notes if n.startswith(metric) and "say nothing" in n]
        assert "dead" in note
        assert "good" not in note
    assert "class means coincide" in result.status("dead", "face")


@each_route
def test_class_means_that_coincide_but_for_rounding(route: str, precision: str) -> None:
    """Every class has the same samples, in another order."""
    rng = np.random.default_rng(1)
    x, y = np.tile(rng.normal(size=(N // C, D)), (C, 1)), np.repeat(np.arange(C), N // C)
    order = rng.permutation(N)
    x, y = x[order], y[order].astype(np.int32)
    assert np.isnan(score(route, "face", x, y, precision))
    if route != "moments":
        assert score(route, "sfda", x, y, precision) == pytest.approx(1 / C, rel=1e-5)


def paired(width: int = D) -> tuple[Array, Array, float]:
    """Classes in pairs of the same features, and what their priors alone give."""
    y = labels()
    x = np.random.default_rng(1).normal(size=(2, width))[y // 2]
    count = np.bincount(y)
    return x, y, sum(count[c] ** 2 / (count[c] + count[c ^ 1]) for c in range(C)) / N


@pytest.mark.parametrize("route", SFDA_ROUTES)
def test_classes_in_identical_pairs_share_their_prior(route: str, precision: str) -> None:
    """No classifier can tell them apart, whatever the order of the rows."""
    x, y, prior = paired()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(N)
        result = score(route, "sfda", x[order], y[order], precision)
        assert result == pytest.approx(prior, rel=1e-6)


def test_identical_pairs_of_more_columns_than_rows() -> None:
    x, y, prior = paired(130)
    assert score("memory", "sfda", x, y, "float64") == pytest.approx(prior, rel=1e-9)


@each_route
def test_collapsed_classes(route: str, precision: str) -> None:
    """Told apart for certain; the largest value of FaCe."""
    y = labels()
    x = 10 * np.eye(C, D)[y] + VECTOR[None] / 10
    if route != "moments":
        assert score(route, "sfda", x, y, precision) == pytest.approx(1, rel=1e-6)
    assert score(route, "face", x, y, precision) == pytest.approx(np.log(C - 1), abs=1e-5)


# --- LogME where a Gram matrix stops knowing ------------------------------------------------------


def low_rank(rank: int, shape: tuple[int, int]) -> tuple[Array, Array]:
    n, d = shape
    y = (np.arange(n) % 3).astype(np.int32)
    rng = np.random.default_rng(rank)
    latent = rng.normal(size=(n, rank)) + rng.normal(size=(3, rank))[y]
    return (latent @ rng.normal(size=(rank, d)) / np.sqrt(rank)).astype(np.float32), y


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("shape", [(200, 100), (90, 110), (230, 200)], ids=str)
def test_logme_of_few_directions(shape: tuple[int, int], variant: str) -> None:
    """Rounded to float32, so that the others are there, at 1e-8: far below what squares know."""
    x, y = low_rank(1, shape)
    expected = oracles.logme(x, y, variant=variant)
    routes = ("memory", "weights") if shape == (200, 100) else ("memory",)
    for route in routes:
        result = score(route, "logme", x, y, "float64", variant=variant)
        assert result == pytest.approx(expected, rel=1e-8)
    if shape[0] > shape[1]:  # from moments: what they do not know is left out
        result = score("streamed", "logme", x, y, "float64", variant=variant)
        assert result == pytest.approx(expected, rel=1e-4)
    single = score("memory", "logme", x, y, "float32", variant=variant)
    assert single == pytest.approx(expected, rel=1e-3)


def test_logme_fit_and_derivative_of_few_directions(x64: None) -> None:
    x, y = low_rank(1, (200, 100))
    expected = oracles.logme(x, y)
    assert float(jaxte.metrics.logme_fit(x, y).score) == pytest.approx(expected, rel=1e-8)
    value, slope = jax.value_and_grad(lambda x: jaxte.metrics.logme(x, y, num_classes=3))(
        jnp.asarray(x, float)
    )
    assert float(value) == pytest.approx(expected, rel=1e-8)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("case", ["13 decades", "near collapse", "perfect fit"])
def test_logme_against_arithmetic_of_400_bits(case: str) -> None:
    """Expected: Arb matrices of 400 bits, the maximum over ln t from 151 points and refined."""
    rng = np.random.default_rng(7)
    n, d = 120, 12
    y = (np.arange(n) % 4).astype(np.int32)
    x = rng.normal(size=(n, d)) + 0.5 * rng.normal(size=(4, d))[y]
    if case == "13 decades":
        x = x * 10.0 ** np.linspace(-6.5, 6.5, d)
    elif case == "near collapse":
        x = rng.normal(size=(4, d))[y] + 1e-7 * x
    else:
        x[:, :4] = np.eye(4)[y]
    expected = REFEREE[case]
    assert score("memory", "logme", x, y, "float64") == pytest.approx(expected, rel=1e-8)


REFEREE = {
    "13 decades": -0.7018378268274722,
    "near collapse": 15.182394958484627,
    "perfect fit": 22.306576756991515,
}


def test_moments_of_dependent_features_say_that_they_do_not_know_all() -> None:
    x, y = low_rank(2, (200, 100))
    rng = np.random.default_rng(0)
    pool = {"dependent": cut(x), "plain": cut(rng.normal(size=(200, 100)))}
    notes = jaxte.rank(pool, y, metrics="logme").notes
    (note,) = [n for n in notes if "nearly dependent" in n]
    assert "dependent" in note
    assert "plain" not in note
    assert not any(
        "nearly dependent" in n for n in jaxte.rank({"dependent": x}, y, metrics="logme").notes
    )


# --- SFDA -----------------------------------------------------------------------------------------


def shrinkage_from_diagonal(x: Array, y: Array) -> float:
    """The released power steps, started where row sums that vanish cannot lead them astray."""
    m = oracles.moments(x, y)
    within = np.einsum("c,cij->ij", m.share, m.covariance)
    v = np.diag(within)
    for _ in range(6):
        before, v = v, within @ v / np.linalg.norm(within @ v)
    return float(max(np.exp(-5 * (v @ within @ before)), 1e-10))


@pytest.mark.parametrize("route", SFDA_ROUTES)
def test_rows_that_sum_to_a_constant(route: str, precision: str) -> None:
    """Its row sums are noise, from which the power iteration must not start."""
    y, rng = labels(), np.random.default_rng(3)
    z = rng.normal(size=(N, D)) * np.arange(1, D + 1) + rng.normal(size=(C, D))[y]
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    layer_norm = 0.4 * (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
    for x in (softmax, layer_norm):
        expected = oracles.sfda(x, y, shrinkage=shrinkage_from_diagonal(x, y))
        for order in (np.arange(N), np.random.default_rng(0).permutation(N)):
            result = score(route, "sfda", x[order], y[order], precision)
            assert result == pytest.approx(expected, rel=1e-5 if precision == "float32" else 1e-8)


@pytest.mark.parametrize("metric", METRICS)
def test_float32_at_every_scale(metric: str) -> None:
    rng, y = np.random.default_rng(0), labels()
    x = rng.normal(size=(N, D)) + 0.5 * rng.normal(size=(C, D))[y]
    for exponent in (-20, -10, 0, 4.6, 6, 12):
        scaled = x * 10.0**exponent
        # the evidence has no scale, but the oracle looks for its maximum in a range that has
        expected = getattr(oracles, metric)(x if metric == "logme" else scaled, y)
        assert score("memory", metric, scaled, y, "float32") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("route", SFDA_ROUTES)
def test_sfda_of_columns_of_very_different_scale(route: str, precision: str) -> None:
    rng, y = np.random.default_rng(0), labels()
    x = rng.normal(size=(N, D)) + 0.5 * rng.normal(size=(C, D))[y]
    for decades in (0, 2, 4, 6):
        scaled = (x * np.logspace(-decades, decades, D)).astype(np.float32)
        result = score(route, "sfda", scaled, y, precision)
        rel = 1e-3 if precision == "float32" else 1e-7
        assert result == pytest.approx(oracles.sfda(scaled, y), rel=rel)


@pytest.mark.parametrize("route", SFDA_ROUTES)
def test_no_shrinkage_of_a_singular_scatter_is_nan(route: str, precision: str) -> None:
    y, x = labels(), np.random.default_rng(0).normal(size=(N, D))
    expected = oracles.sfda(x, y, shrinkage=0.0)
    result = score(route, "sfda", x * np.logspace(0, 5, D), y, precision, shrinkage=0.0)
    assert result == pytest.approx(expected, rel=1e-3 if precision == "float32" else 1e-8)
    x[:, 3] = x[:, 2] - x[:, 1]
    assert np.isnan(score(route, "sfda", x, y, precision, shrinkage=0.0))
    if route == "memory":
        wide = np.random.default_rng(0).normal(size=(20, 50))
        assert np.isnan(score(route, "sfda", wide, y[:20], precision, shrinkage=0.0))


@pytest.mark.parametrize("route", SFDA_ROUTES)
def test_a_ridge_lost_beside_the_scatter(route: str, precision: str) -> None:
    """Fewer rows than columns at 1e8: what no class has any spread in decides (as 400 bits say)."""
    y = (np.arange(30) % 3).astype(np.int32)
    x = 1e8 * np.random.default_rng(0).normal(size=(30, 40))
    certain = {"released": 1.0} if route != "memory" else {"released": 1.0, "paper": 0.0}
    for variant, expected in certain.items():
        options = {"variant": variant, "shrink_target": "identity"}
        result = score(route, "sfda", x, y, precision, **options)
        assert result == pytest.approx(expected, abs=1e-6)


# --- FaCe -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["memory", "weights"])
def test_full_covariances_at_every_scale(route: str, precision: str) -> None:
    """At 1e8 the floor is lost beside the variances; classes of 10 rows in 24 dimensions."""
    y = (np.arange(30) % 3).astype(np.int32)
    for scale in (1e-4, 1.0, 1e8):
        x = scale * np.random.default_rng(0).normal(size=(30, 24))
        result = score(route, "face", x, y, precision, covariance="full")
        if scale == 1e8:  # the classes share no direction, so that no two overlap
            expected = oracles.variance_collapse(oracles.moments(x, y)) + np.log(2)
        else:
            expected = oracles.face(x, y, covariance="full")
        assert result == pytest.approx(expected, rel=1e-4 if precision == "float32" else 1e-9)


@pytest.mark.parametrize("normalize", ["minmax", "zscore"])
def test_a_term_that_is_constant_but_for_rounding_is_left_out(
    normalize: str, precision: str
) -> None:
    """Classes so far apart that all are equally fair; the order is that of the other term."""
    rng, y = np.random.default_rng(0), (np.arange(N) % C).astype(np.int32)
    pool = {f"m{i}": rng.normal(size=(N, D)) + (9 + 0.35 * i) * np.eye(C, D)[y] for i in range(5)}
    options: Any = {"metrics": "face", "precision": precision}
    plain = jaxte.rank(pool, y, **options)
    result = jaxte.rank(pool, y, normalize=normalize, **options)
    fairness = [plain.terms(m, "face")["class_fairness"] for m in pool]
    assert np.ptp(fairness) < 1e-6
    assert result.order("face") == plain.order("face")
    collapse = np.array([plain.terms(m, "face")["variance_collapse"] for m in pool])
    low, width = collapse.min(), np.ptp(collapse)
    if normalize == "zscore":
        low, width = collapse.mean(), collapse.std()
    scores = [result.score(m, "face") for m in pool]
    np.testing.assert_allclose(scores, (collapse - low) / width, rtol=1e-9, atol=1e-12)


# --- perturbations --------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_spread_leaves_alike_samples_alone(offset: float, weighted: bool, precision: str) -> None:
    """A class of one sample, one of three that are alike, a column that is dead for a class."""
    rng, y = np.random.default_rng(0), labels()
    y[y == 3] = 2
    y[7], y[[11, 12, 13]] = 3, 4
    x = offset + rng.normal(size=(N, D))
    x[[12, 13]] = x[11]
    x[y == 1, 2] = 0
    w = rng.random(N) + 0.2 if weighted else None
    x = x.astype(precision)
    moved = np.asarray(perturb.spread(x, y, weights=w)) - x
    alike = (y == 3) | (y == 4)
    assert not moved[alike].any()
    lengths = np.linalg.norm(moved[~alike], axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-2 if precision == "float32" else 1e-9)
    assert np.abs(moved[y == 1, 2]).max() == 0


@pytest.mark.parametrize("move", ["attract", "spread_attract"])
def test_classes_of_rectified_features_that_are_all_zero(move: str, precision: str) -> None:
    """Two dead classes lie in one point: there is no line between them, and both stay together."""
    rng, y = np.random.default_rng(0), labels()
    x = np.maximum(rng.normal(size=(N, D)), 0)
    x[y >= 2] = 0
    function: Callable[..., Any] = getattr(perturb, move)
    moved = np.asarray(function(x.astype(precision), y, alpha=0.1))
    dead = moved[y >= 2]
    np.testing.assert_allclose(dead, np.broadcast_to(dead[:1], dead.shape), atol=1e-6)
    if move == "attract":
        expected = oracles_perturb.attract(x, np.minimum(y, 2), alpha=0.1)
        # the oracle sees one class where there are two: the others are drawn to it twice
        assert np.all(np.isfinite(moved))
        assert expected.shape == moved.shape
