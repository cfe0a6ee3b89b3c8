"""Terms that are combined over a pool: by hand, under jit, and through `rank`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import blobs

import jaxte
from jaxte import InputError, report
from jaxte.metrics import REGISTRY, Metric, combine, score_pool
from jaxte.metrics.metric import Outputs

pytestmark = pytest.mark.usefixtures("x64")
A, B = np.array([3.0, 1.0, 2.0, 5.0]), np.array([10.0, 30.0, 30.0, 20.0])
SCALES: dict[str, Any] = {
    "sum": lambda v: v,
    "minmax": lambda v: (v - v.min()) / np.ptp(v),
    "zscore": scipy.stats.zscore,
    "rank": lambda v: (scipy.stats.rankdata(v) - 1) / (len(v) - 1),
}


@pytest.mark.parametrize("normalise", SCALES)
def test_weighted_sums(normalise: str) -> None:
    expected = 2 * SCALES[normalise](A) - 0.5 * SCALES[normalise](B)
    weights = {"a": 2.0, "b": -0.5}
    result = combine({"a": A, "b": B}, weights, normalise=normalise)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    inside = jax.jit(lambda t, v: combine(t, weights, normalise=normalise, valid=v))
    spoiled = {"a": jnp.append(A, 1e9), "b": jnp.append(B, -1e9)}
    masked = inside(spoiled, jnp.array([True] * 4 + [False]))
    np.testing.assert_allclose(masked[:4], expected, rtol=1e-12)
    assert np.isnan(masked[4])
    failed = combine(
        {"a": np.append(A, np.nan), "b": np.append(B, 1e9)}, weights, normalise=normalise
    )
    np.testing.assert_allclose(failed[:4], expected, rtol=1e-12)


def test_a_term_that_is_the_same_for_all_says_nothing() -> None:
    for normalise in ("minmax", "zscore", "rank"):
        same = combine([A, 7 + 1e-12 * A], normalise=normalise)
        np.testing.assert_array_equal(same, combine([A], normalise=normalise))
        assert combine([A[:1]], normalise=normalise) == [0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_small_terms_are_no_rounding(dtype: str) -> None:
    small = np.array([1e-7, 2e-7, 5e-7] if dtype == "float32" else [1e-10, 2e-10, 5e-10], dtype)
    np.testing.assert_allclose(combine({"a": small}), [0, 0.25, 1], rtol=1e-5)
    np.testing.assert_allclose(combine(np.stack([small, small])), [0, 0.5, 2], rtol=1e-5)
    np.testing.assert_array_equal(combine({"a": small}, rounding=1e-6), 0)


def test_geometric_mean() -> None:
    a, b = SCALES["minmax"](A), SCALES["minmax"](B)
    result = combine([A, B], mean="geometric")
    np.testing.assert_allclose(result, np.sqrt((a + 1e-6) * (b + 1e-6)) - 1e-6)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        combine([A, B], normalise="zscore", mean="geometric")


def test_terms_that_do_not_go_together() -> None:
    with pytest.raises(InputError, match="weights are 5"):
        combine([A, B], 5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="whose sum is positive"):
        combine([A, B], [0, 0], mean="geometric")
    with pytest.raises(InputError, match="each needs one number"):
        combine([np.zeros(0)])
    with pytest.raises(InputError, match="shapes"):
        combine([A, B[:3]])
    with pytest.raises(InputError, match="weights are for a"):
        combine({"a": A, "b": B}, {"a": 1.0})
    with pytest.raises(InputError, match="normalise"):
        combine([A], normalise="softmax")
    wrong: Any = combine
    with pytest.raises(InputError, match="term 'a'"):
        wrong({"a": ["x", "y"]})
    for weight in ("x", np.nan):
        with pytest.raises(InputError, match="weight of 'a'"):
            wrong({"a": A}, {"a": weight})
    with pytest.raises(InputError, match="valid has shape"):
        wrong([A], valid=[True])
    with pytest.raises(InputError, match="terms are None"):
        wrong(None)


# --- through rank ---------------------------------------------------------------------------------

X, Y = blobs(40, 6, separation=1.5)
RNG = np.random.default_rng(1)
POOL = {str(s): X + s * RNG.normal(size=X.shape) for s in (0.1, 0.5, 1.0)}
BAD = {"bad": np.full(X.shape, np.nan)}


@pytest.mark.parametrize("name", ["ncti", "etran", "tvt"])
def test_pools_are_combined_as_published_and_keep_their_terms(name: str) -> None:
    ranking = jaxte.rank(POOL | BAD, Y, metrics=[name, "hscore"])
    record = REGISTRY[name]
    terms = {t: np.array([ranking.terms(m, name)[t] for m in POOL]) for t in record.terms}
    expected = combine(terms, record.terms, normalise=record.normalise, mean=record.mean)
    np.testing.assert_allclose([ranking.score(m, name) for m in POOL], expected)
    assert ranking.status("bad", name) != "ok"
    plain = [float(record.function(x, Y)) for x in POOL.values()]
    np.testing.assert_allclose(plain, sum(w * terms[t] for t, w in record.terms.items()))
    stacked = np.stack([*POOL.values(), BAD["bad"]])
    result = jax.jit(lambda x: score_pool(name, x, Y, num_classes=4))(stacked)
    np.testing.assert_allclose(result[:3], expected, rtol=1e-7, atol=1e-9)
    assert np.isnan(result[3])


def test_a_pool_of_outputs_of_heads() -> None:
    logits = np.stack([*POOL.values()])
    with pytest.raises(InputError, match="leep reads the outputs of the models' own heads"):
        score_pool("leep", logits, Y)
    with pytest.raises(InputError, match=r"logits have shape \(2, "):
        score_pool("leep", logits, Y, logits=logits[:2])
    expected = [float(REGISTRY["leep"].function(None, Y, logits=own)) for own in logits]
    np.testing.assert_allclose(score_pool("LEEP", logits, Y, logits=logits), expected, rtol=1e-12)


def test_one_more_model_moves_the_others() -> None:
    """The price of a score that is defined over a pool."""
    first = jaxte.rank(POOL, Y, metrics=["ncti", "hscore"])
    more = jaxte.rank(POOL | {"outlier": 1e3 * X}, Y, metrics=["ncti", "hscore"])
    assert more.score("0.5", "ncti") != pytest.approx(first.score("0.5", "ncti"), rel=1e-3)
    assert more.score("0.5", "hscore") == pytest.approx(first.score("0.5", "hscore"))


def test_a_column_of_ones_own() -> None:
    ranking = jaxte.rank(POOL | BAD, Y, metrics=["logme", "hscore"])
    joined = ranking.combine({"logme": 1.0, "hscore": 0.15}, normalise="zscore", name="both")
    table = {m: np.array([ranking.score(one, m) for one in POOL]) for m in ("logme", "hscore")}
    expected = combine(table, {"logme": 1.0, "hscore": 0.15}, normalise="zscore")
    np.testing.assert_allclose([joined.score(one, "both") for one in POOL], expected)
    assert joined.metrics == ("logme", "hscore", "both")
    assert joined.terms("0.1", "both") == {m: ranking.score("0.1", m) for m in table}
    assert joined.status("bad", "both") == ranking.status("bad", "logme")
    assert joined.best("both") == "0.1"
    assert jaxte.Ranking.from_json(report.to_json(joined)) == joined
    assert "both" in repr(joined)
    for weights, name, message in (
        ({"sfda": 1.0}, "x", "no metric 'sfda'"),
        ({"logme": 1.0}, "hscore", "no column has already"),
        ({}, "x", "no mapping"),
    ):
        with pytest.raises(InputError, match=message):
            ranking.combine(weights, name=name)


def test_a_users_own_metric_declares_how_its_terms_are_combined() -> None:
    def score(statistics: Any, _: Any) -> Outputs:
        terms = {"width": statistics.width, "total": statistics.total}
        return {"score": statistics.width - statistics.total, **terms}

    def function(features: Any, labels: Any, **shared: Any) -> Any:
        raise NotImplementedError

    own = Metric(
        name="own", function=function, score=score, terms={"width": 1.0, "total": -1.0},
        normalise="rank",
    )  # fmt: skip
    ranking = jaxte.rank({"narrow": X[:, :3], "wide": X}, Y, metrics=[own])
    assert [ranking.score(m, "own") for m in ("narrow", "wide")] == [0, 1]
    assert ranking.terms("wide", "own") == {"width": 6, "total": 40}
