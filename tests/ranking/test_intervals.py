"""How far scores differ on other samples, and which model leads there."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte import report
from jaxte.errors import InputError
from jaxte.metrics import REGISTRY, Metric, get_metric
from jaxte.ranking.influence import _curvature
from jaxte.ranking.intervals import Interval
from jaxte.statistics import Sample, Statistics

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 3
NOISE = RNG.normal(size=(120, 6))
POOL = {f"at {s}": NOISE + s * np.eye(6)[LABELS] for s in (0.0, 0.7, 2.0)}


@pytest.fixture(scope="module")
def ranking() -> jaxte.Ranking:
    return jaxte.rank(POOL, LABELS, metrics=["logme", "ncti"], intervals=True, seed=3)


def known(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


def test_the_standard_error_of_a_mean_has_a_closed_form() -> None:
    """Of a user's own function, which is called without one group of rows after the other."""

    def mean(features: Any, labels: Any) -> float:
        return float(np.mean(np.asarray(features)[:, 0]))

    x = RNG.normal(size=(4000, 2)) + np.arange(4000)[:, None] % 2
    ranking = jaxte.rank(
        {"a": x}, np.zeros(4000, int) + np.arange(4000) % 2, metrics=mean, intervals=True
    )
    one = known(ranking.interval("a", "mean"))
    within = np.sqrt(np.mean([x[k::2, 0].var() for k in range(2)]) / 4000)
    assert one.standard_error == pytest.approx(within, rel=0.3)
    assert one.hi - one.lo == pytest.approx(2 * 1.645 * one.standard_error, rel=1e-3)


def test_it_is_the_jackknife_of_single_rows() -> None:
    """Each row left out in turn, scored anew: the same to first order in 1/n."""
    x = POOL["at 0.7"]
    ranking = jaxte.rank({"a": x}, LABELS, metrics=["logme", "hscore"], intervals=True)
    for metric, function in {"logme": jaxte.metrics.logme, "hscore": jaxte.metrics.hscore}.items():
        with jax.enable_x64(True):
            score = jax.jit(lambda w, f=function: f(x, LABELS, num_classes=3, weights=w))
            without = np.array([float(score(np.arange(120) != i)) for i in range(120)])
        error = np.sqrt(119 / 120 * ((without - without.mean()) ** 2).sum())
        assert known(ranking.interval("a", metric)).standard_error == pytest.approx(error, rel=0.15)


def test_a_row_that_counts_more_does_not_judge_itself() -> None:
    """Each row left out of the probe in turn, where a row decides most of its own prediction."""
    x = np.concatenate([POOL["at 2.0"], RNG.normal(size=(120, 60))], axis=1)
    ranking = jaxte.rank({"a": x}, LABELS, metrics="ridge_probe", intervals=True)
    with jax.enable_x64(True):
        probe = jax.jit(lambda w: jaxte.metrics.ridge_probe(x, LABELS, num_classes=3, weights=w))
        without = np.array([float(probe(np.arange(120) != i)) for i in range(120)])
    error = np.sqrt(119 / 120 * ((without - without.mean()) ** 2).sum())
    assert known(ranking.interval("a", "ridge_probe")).standard_error == pytest.approx(
        error, rel=0.2
    )


def inflation_of(metric: str, x: np.ndarray, targets: np.ndarray, **options: Any) -> np.ndarray:
    one = REGISTRY[metric]
    inflation_by, chosen = one.inflation, one.all_options(options)
    assert inflation_by is not None

    @jax.jit  # an operation at a time compiles hundreds of programs
    def inflation(x: Any, targets: Any) -> Any:
        statistics = Statistics(Sample(x, targets), num_classes=3 if targets.ndim == 1 else None)
        return inflation_by(statistics, **chosen)

    with jax.enable_x64(True):
        return np.asarray(inflation(x, targets))


@pytest.mark.parametrize("columns", [6, 200])
def test_rows_that_pull_their_own_fit_count_for_more(columns: int) -> None:
    """The leverages of ridge regression at the precisions of the evidence."""
    x = np.concatenate([POOL["at 2.0"], RNG.normal(size=(120, columns - 6))], axis=1)
    with jax.enable_x64(True):
        fit = jaxte.metrics.logme_fit(x, LABELS)
    assert not np.any(fit.bounded)
    hats = [
        x @ np.linalg.solve(x.T @ x + ratio * np.eye(columns), x.T)
        for ratio in np.asarray(fit.alpha / fit.beta)
    ]
    h = np.mean([np.diag(hat) for hat in hats], axis=0)
    np.testing.assert_allclose(inflation_of("logme", x, LABELS), (1 - h) ** -0.5, rtol=1e-8)


def test_a_shrunk_covariance_has_leverages_too() -> None:
    sklearn = pytest.importorskip("sklearn.covariance")
    x = np.concatenate([POOL["at 2.0"], RNG.normal(size=(120, 60))], axis=1)
    covariance, shrinkage = sklearn.ledoit_wolf(x)
    centred = x - x.mean(0)
    h = (1 - shrinkage) / 120 * np.sum(centred * np.linalg.solve(covariance, centred.T).T, axis=1)
    inflation = inflation_of("hscore_shrinkage", x, LABELS)
    np.testing.assert_allclose(inflation, (1 - h) ** -0.5, rtol=1e-6)


def nested(x: np.ndarray, y: np.ndarray, k: int, folds: np.ndarray) -> float:
    """Algorithm 1 of Bates et al. for neighbours, as it reads: y [n, classes or targets]."""
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(squares, np.inf)

    def losses(kept: np.ndarray) -> np.ndarray:
        near = np.argsort(np.where(kept, squares, np.inf), axis=1)[:, :k]
        votes = y[near].mean(1)
        if y.shape[1] == 3:
            return (votes.argmax(1) != y.argmax(1)).astype(float)
        return ((y - votes) ** 2).sum(1)

    excess = []
    for split in folds:
        for fold in range(5):
            loss = losses(split != fold)
            out = loss[split == fold]
            gap = loss[split != fold].mean() - out.mean()
            excess.append(gap**2 - out.var(ddof=1) / len(out))
    plain = losses(np.ones(len(x), bool)).var(ddof=1) / len(x)
    return float(np.sqrt(np.clip(np.mean(excess) * 4 / 5 / plain, 1, 5)))


@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_neighbours_are_judged_by_nested_cross_validation(kind: str) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(90, 4)) + (LABELS[:90, None] == 1)
    targets = LABELS[:90] if kind == "classes" else x[:, :2] + rng.normal(size=(90, 2))
    y = np.eye(3)[targets] if kind == "classes" else targets
    uniform = [
        jax.random.uniform(key, (90,), np.float32)
        for key in jax.random.split(jax.random.key(0), 20)
    ]
    folds = np.stack([np.argsort(one) % 5 for one in uniform])
    expected = nested(x, y, 3, folds)
    assert 1 < expected < 5**0.5
    inflation = inflation_of("knn", x, targets, k=3)
    np.testing.assert_allclose(inflation, expected, rtol=1e-6)


def test_a_mean_over_rows_has_the_error_of_a_mean() -> None:
    """The model's own confidence, which reads no labels."""
    p = np.exp(POOL["at 0.7"]) / np.exp(POOL["at 0.7"]).sum(1, keepdims=True)
    model = {"features": POOL["at 0.7"], "probabilities": p}
    ranking = jaxte.rank({"a": model}, metrics="msp", intervals=True)
    one = known(ranking.interval("a", "msp"))
    assert one.standard_error == pytest.approx(p.max(1).std() / np.sqrt(120))


def test_rows_of_weight_0_are_absent_and_pairs_share_what_is_odd() -> None:
    weights = np.r_[np.ones(120), np.zeros(30)]
    longer = {name: np.r_[x, np.full((30, 6), 1e9)] for name, x in POOL.items()}
    labels = np.r_[LABELS, np.zeros(30, int)]
    padded = jaxte.rank(longer, labels, metrics="logme", weights=weights, intervals=True)
    plain = jaxte.rank(POOL, LABELS, metrics="logme", intervals=True)
    for model in POOL:
        assert padded.interval(model, "logme") == pytest.approx(plain.interval(model, "logme"))
    assert padded.p_best() == pytest.approx(plain.p_best())


def test_what_pairs_of_rows_do_is_the_square_of_the_second_derivative() -> None:
    """One random direction tells it well enough; many, on average, as the whole matrix does."""
    n = len(LABELS)
    with jax.enable_x64(True):
        x = jnp.asarray(POOL["at 0.7"])

        def probe(w: jax.Array) -> jax.Array:
            return jaxte.metrics.ridge_probe(x, LABELS, num_classes=3, weights=w)

        slopes = jax.jit(jax.grad(probe))
        u, h = (np.asarray(f(jnp.ones(n))) for f in (slopes, jax.jit(jax.hessian(probe))))
        np.testing.assert_allclose(h, h.T, atol=1e-12)
        u, h = u - u.mean(), h - h.mean(0) - h.mean(1)[:, None] + h.mean()
        sample = Sample(x, jnp.asarray(LABELS), jnp.ones(n))
        made = [_curvature(lambda s: slopes(s.weights), sample, u, seed) for seed in range(200)]
    assert np.mean(made) == pytest.approx(np.sum(h**2) / 2 / np.sum(u**2), rel=0.12)
    assert np.std(made) < 0.5 * np.mean(made)


def test_a_clear_winner_leads_and_twins_share_the_chance(ranking: jaxte.Ranking) -> None:
    assert ranking.p_best("logme")["at 2.0"] > 0.99
    assert ranking.credible_set("logme") == ["at 2.0"]
    twins = {"one": POOL["at 2.0"], "other": POOL["at 2.0"][:, ::-1], "blind": POOL["at 0.0"]}
    equal = jaxte.rank(twins, LABELS, metrics="logme", intervals=True)
    assert equal.p_best()["one"] == pytest.approx(0.5, abs=0.1)
    assert sorted(equal.credible_set()) == ["one", "other"]
    assert equal.verdict() == (
        "Fine-tune one or other (they tie), by logme, first on other samples too with a chance of "
        ">99%."
    )
    close = {"one": POOL["at 0.7"], "near": POOL["at 0.7"] + 0.2 * RNG.normal(size=(120, 6))}
    assert "; with " in jaxte.rank(close, LABELS, metrics="logme", intervals=True).verdict()


def test_a_score_over_the_pool_is_made_anew_of_every_resample(ranking: jaxte.Ranking) -> None:
    best = known(ranking.interval("at 2.0", "ncti"))
    assert best.lo <= ranking.score("at 2.0", "ncti") <= best.hi
    assert sum(ranking.p_best("ncti").values()) == pytest.approx(1)


def test_it_is_kept_in_files_and_shown(ranking: jaxte.Ranking) -> None:
    for again in (
        jaxte.Ranking.from_json(report.to_json(ranking)),
        jaxte.Ranking.from_csv(report.to_csv(ranking)),
    ):
        assert again.interval("at 0.7", "logme") == ranking.interval("at 0.7", "logme")
        assert again.p_best("ncti") == ranking.p_best("ncti")
    content = json.loads(report.to_json(ranking))
    assert content["meta"]["intervals"] == ["logme", "ncti"]
    shown = report.table(ranking)
    assert shown.columns == ("model", "logme", "+/-", "#", "best", "ncti", "+/-", "#", "best")
    assert shown.rows[0][4].text == ">99%"


def test_a_history_has_its_part_in_who_leads() -> None:
    history = [
        {"model": model, "dataset": "elsewhere", "accuracy": accuracy}
        for model, accuracy in zip(POOL, (0.9, 0.5, 0.1), strict=True)
    ]
    pool = {
        name: NOISE + 0.3 * np.eye(6)[LABELS] + 0.1 * RNG.normal(size=(120, 6)) for name in POOL
    }
    ranking = jaxte.rank(pool, LABELS, metrics="logme", intervals=True, history=history)
    assert ranking.p_best()["at 0.0"] > ranking.p_best("logme")["at 0.0"]
    again = jaxte.Ranking.from_json(report.to_json(ranking))
    assert again.p_best() == ranking.p_best()
    assert "and history" in ranking.verdict()


def test_where_a_score_is_lost_without_some_rows_a_note_says_so() -> None:
    def fragile(features: Any, labels: Any) -> float:
        return 1.0 if len(features) == 120 else float("nan")

    ranking = jaxte.rank(POOL, LABELS, metrics=[fragile], intervals=True)
    assert ranking.interval("at 0.7", "fragile") is None
    assert any("has no interval for" in note for note in ranking.notes)
    with pytest.raises(InputError, match="intervals=True"):
        ranking.credible_set()


@pytest.mark.parametrize("intervals", [5, "many", None])
def test_what_makes_no_sense_is_refused(intervals: Any) -> None:
    with pytest.raises(InputError, match="intervals is"):
        jaxte.rank(POOL, LABELS, metrics="logme", intervals=intervals)


def called(metric: str) -> Any:
    """The metric as a function of which nothing is known."""

    def own(features: Any, labels: Any) -> float:
        with jax.enable_x64(True):
            return float(get_metric(metric).function(features, labels))

    return get_metric(own)


@pytest.mark.parametrize("metric", ["transrate", "logme", "sfda"])
def test_groups_are_left_out_where_there_is_no_derivative(metric: str, recwarn: Any) -> None:
    """Of metrics of which it says little, and of streams; of user's functions the same groups."""
    pool: dict[str, Any] = POOL
    if metric != "transrate":
        pool = {name: np.split(x, [50, 51]) for name, x in POOL.items()}
    how: Any = {"intervals": True, "precision": "float64", "seed": 1}
    ranking = jaxte.rank(pool, LABELS, metrics=metric, **how)
    assert not recwarn.list
    expected = jaxte.rank(POOL, LABELS, metrics=called(metric), **how)
    for model in POOL:
        interval, other = known(ranking.interval(model, metric)), expected.interval(model, "own")
        assert interval[:3] == pytest.approx(known(other)[:3], rel=1e-7)


def test_where_the_derivative_is_no_number_groups_are_left_out() -> None:
    def nothing_else(features: Any, targets: Any) -> jax.Array:
        raise NotImplementedError

    def score(statistics: Statistics, _: Any) -> dict[str, jax.Array]:
        rows = statistics.rows
        nothing = jnp.sqrt(0 * rows.total)  # its derivative is 0 times infinity
        return {"score": rows.weights @ rows.features[:, 0] / rows.total + nothing}

    edged = Metric(name="edged", function=nothing_else, score=score, needs=frozenset({"rows"}))
    ranking = jaxte.rank(POOL, LABELS, metrics=edged, intervals=True)
    error = NOISE[:, 0].std() / np.sqrt(120)
    interval = known(ranking.interval("at 0.0", "edged"))
    assert interval.standard_error == pytest.approx(error, rel=0.5)


def test_terms_over_the_pool_have_groups_too() -> None:
    terms = jaxte.rank(POOL, LABELS, metrics="etran", intervals=True)
    assert known(terms.interval("at 0.7", "etran")).standard_error > 0
