"""A score beside what it is for permuted targets."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte.errors import InputError
from jaxte.metrics import REGISTRY
from jaxte.ranking.chance import Chance, chance_notes, chance_of, too_few
from jaxte.statistics.principal import permuted

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
BLIND = RNG.normal(size=(60, 4))
SIGHTED = BLIND + 2 * np.eye(4)[LABELS]


def spread_of_classes(features: np.ndarray, labels: np.ndarray) -> float:
    """A user's own metric."""
    x, y = np.asarray(features), np.asarray(labels)
    return float(np.var([x[y == c].mean() for c in range(3)]))


@pytest.fixture(scope="module")
def ranking() -> jaxte.Ranking:
    pool = {"blind": BLIND, "sighted": SIGHTED}
    metrics = ["logme", "parc", "ncti", "rankme", spread_of_classes]
    return jaxte.rank(pool, LABELS, metrics=metrics, permutations=19, seed=3)


def test_the_null_is_that_of_the_metric_itself(ranking: jaxte.Ranking) -> None:
    """In principal axes (LogME), by brute force (PARC), and by calls of a user's function."""
    keys = jax.random.split(jax.random.key(3), 19)
    drawn = [
        permuted(jnp.array(LABELS), None, jax.random.bits(key, (60,), "uint32")) for key in keys
    ]
    own = {"logme": jaxte.metrics.logme, "parc": jaxte.metrics.parc}
    with jax.enable_x64(True):
        for name, function in own.items():
            score = jax.jit(lambda y, function=function: function(SIGHTED, y, num_classes=3))
            null = np.array([float(score(y)) for y in drawn])
            chance = ranking.chance("sighted", name)
            assert chance is not None
            assert chance[:2] == pytest.approx((null.mean(), null.std(ddof=1)), rel=1e-6)
    null = np.array([spread_of_classes(SIGHTED, np.asarray(y)) for y in drawn])
    chance = ranking.chance("sighted", "spread_of_classes")
    assert chance is not None
    assert chance.null_mean == pytest.approx(null.mean())


@pytest.mark.parametrize(("weighted", "memory_limit"), [(False, 1 << 30), (True, 40_000)])
def test_streams_have_the_null_of_rows_in_memory(weighted: bool, memory_limit: int) -> None:
    """Without, with one and with several further passes, a few permutations at a time."""
    probabilities = np.exp(BLIND) / np.exp(BLIND).sum(1, keepdims=True)
    weights = np.arange(60) % 4 / 2 if weighted else None
    metrics = ["logme", "sfda", "face", "hscore_shrinkage", "leep"]
    whole = {"features": SIGHTED, "probabilities": probabilities}
    parts = whole | {"features": np.split(SIGHTED, [20, 21])}

    def chances(model: dict[str, Any]) -> list[Chance | None]:
        ranking = jaxte.rank(
            {"a": model}, LABELS, metrics=metrics, permutations=9, weights=weights, seed=3,
            memory_limit=memory_limit, precision="float64",
        )  # fmt: skip
        return [ranking.chance("a", metric) for metric in metrics]

    for own, expected in zip(chances(parts), chances(whole), strict=True):
        assert own is not None
        assert expected is not None
        assert own[:2] == pytest.approx(expected[:2], rel=1e-9)
        assert own.p_value == expected.p_value


def test_streams_of_several_targets_and_of_labels_that_come_along() -> None:
    targets = SIGHTED[:, :2] + RNG.normal(size=(60, 2))
    names = np.array(["ant", "bee", "cat"])[LABELS]
    for y, metrics in ((targets, ["logme", "lfc"]), (names, ["logme", "hscore"])):
        batches = [(SIGHTED[part], y[part]) for part in (slice(0, 33), slice(33, 60))]
        how: Any = {"metrics": metrics, "permutations": 9, "precision": "float64"}
        streamed = jaxte.rank({"a": batches}, **how)
        whole = jaxte.rank({"a": SIGHTED}, y, **how)
        for metric in metrics:
            own, expected = (one.chance("a", metric) for one in (streamed, whole))
            assert own is not None
            assert expected is not None
            assert own[:2] == pytest.approx(expected[:2], rel=1e-9)


def test_what_cannot_be_read_again_says_so() -> None:
    def shuffled() -> Any:
        order = RNG.permutation(60)
        return iter([(SIGHTED[order], LABELS[order])])

    how: Any = {"metrics": "logme", "permutations": 19, "intervals": True}
    for ranking in (
        jaxte.rank({"a": iter([SIGHTED])}, LABELS, **how),
        jaxte.rank({"a": shuffled}, **how),
    ):
        assert ranking.status("a", "logme") == "ok"
        assert ranking.chance("a", "logme") is None
        assert any("chance is not known of a" in note for note in ranking.notes)
        assert any("intervals are not known of a" in note for note in ranking.notes)


def test_signal_is_told_from_none(ranking: jaxte.Ranking) -> None:
    for metric in ("logme", "parc"):
        sighted = ranking.chance("sighted", metric)
        assert sighted is not None
        assert sighted.p_value == pytest.approx(1 / 20)
        assert sighted.z > 3
    blind = ranking.chance("blind", "logme")
    assert blind is not None
    assert blind.p_value > 0.05
    assert any("logme of blind is no more than chance" in note for note in ranking.notes)
    assert ranking.chance("blind", "rankme") is None  # it reads no labels


def test_scores_of_a_pool_have_nulls_of_the_pool(ranking: jaxte.Ranking) -> None:
    """NCTI is combined over the models, of one labelling at a time."""
    chances = [ranking.chance(model, "ncti") for model in ranking.models]
    assert all(one is not None and math.isfinite(one.null_mean) for one in chances)


def test_files_and_tables_have_it(ranking: jaxte.Ranking, tmp_path: Path) -> None:
    ranking.to_csv(tmp_path / "r.csv")
    ranking.to_json(tmp_path / "r.json")
    for read in (
        jaxte.Ranking.from_csv(tmp_path / "r.csv"),
        jaxte.Ranking.from_json(tmp_path / "r.json"),
    ):
        assert read.chance("sighted", "logme") == ranking.chance("sighted", "logme")
        assert read.terms("sighted", "logme") == {}
    record = json.loads((tmp_path / "r.json").read_text())["records"][0]
    assert {"null_mean", "null_sd", "z", "p_value", "saturated"} <= record.keys()
    head = str(ranking).splitlines()[0].split()
    assert head[:5] == ["model", "logme", "#", "p", "parc"]


def test_a_score_beside_its_null() -> None:
    metric = REGISTRY["lda"]  # from 0 to 1
    null = np.array([0.2, 0.3, 0.4, np.nan])
    chance = chance_of(metric, 0.5, null, "float64")
    assert chance == pytest.approx(Chance(0.3, 0.1, 2.0, 0.25, False))
    full = chance_of(metric, 1.0, np.array([1.0, 1.0, 0.999]), "float64")
    assert full is not None
    assert full.saturated
    assert full.p_value == 0.75
    constant = chance_of(REGISTRY["hscore"], 2.0, np.full(3, 2.0 + 1e-13), "float64")
    assert constant is not None
    assert constant[:2] == pytest.approx((2.0, 0.0))
    assert constant[2:] == (0.0, 1.0, True)
    above = chance_of(REGISTRY["ridge_probe"], -0.1, np.full(9, -1.8), "float64")
    assert above is not None
    assert above == pytest.approx(Chance(-1.8, 0.0, math.inf, 0.1, False))
    assert chance_of(metric, math.nan, null, "float64") is None
    assert chance_of(metric, 0.5, np.array([np.nan]), "float64") is None
    assert "saturated for a" in chance_notes("lda", {"a": full}, 3)[0]
    assert chance_notes("ridge_probe", {"a": above}, 9) == []  # as low as nine can tell
    assert "give 19 or more" in too_few(9)[0]
    assert too_few(0) == too_few(19) == []


def test_permutations_that_cannot_be() -> None:
    for wrong in (-1, 1.5, "many"):
        with pytest.raises(InputError, match="permutations is"):
            jaxte.rank({"a": BLIND}, LABELS, metrics="logme", permutations=wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_p_values_of_noise_are_uniform() -> None:
    pool = {str(i): np.random.default_rng(i).normal(size=(60, 8)) for i in range(100)}
    ranking = jaxte.rank(pool, LABELS, metrics=["logme", "hscore"], permutations=49)
    for metric in ranking.metrics:
        chances = [ranking.chance(model, metric) for model in pool]
        p = np.sort([one.p_value for one in chances if one is not None])
        gap = np.abs(p - (np.arange(100) + 0.5) / 100).max()
        assert gap < 1.63 / math.sqrt(100)  # Kolmogorov and Smirnov, 1 %


# Those that permuted labels bring to their ceiling where rows are wide, and some that they do not.
SATURATE = ("sfda", "hscore", "lda", "nearest_class_mean", "vci", "ridge_probe")
OTHERS = ("logme", "hscore_shrinkage", "knn", "gbc")


@pytest.mark.slow
@pytest.mark.parametrize("width", [64, 1024])
def test_noise_is_flagged_and_signal_where_it_can_be_told(width: int) -> None:
    labels = np.arange(300) % 10
    noise = np.random.default_rng(0).normal(size=(300, width))
    signal = noise.copy()
    signal[:, :10] += 2.5 * np.eye(10)[labels]
    pool, metrics = {"noise": noise, "signal": signal}, (*SATURATE, *OTHERS)
    ranking = jaxte.rank(pool, labels, metrics=metrics, permutations=39)
    flagged = {
        model: {
            m
            for m in metrics
            for note in ranking.notes
            if note.startswith(f"{m} ") and model in note
        }
        for model in pool
    }
    # p is at most 0.05 once in twenty: of those that are not saturated one may be missing
    assert len(set(OTHERS) - flagged["noise"]) <= 1
    if width > 300:
        assert flagged["noise"] >= set(SATURATE)
    for metric in flagged["signal"]:
        chance = ranking.chance("signal", metric)
        assert chance is not None
        assert chance.saturated, metric
        assert metric in SATURATE
        assert width > 300
