"""Scores against the number of rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte.errors import InputError
from jaxte.ranking.curve import ScoreCurve

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), (60, 20, 10))
NOISE = RNG.normal(size=(90, 5))
POOL = {"blind": NOISE, "sighted": NOISE + 2 * np.eye(5)[LABELS]}


@pytest.fixture(scope="module")
def curve() -> ScoreCurve:
    return jaxte.score_curve(POOL, LABELS, shares=(0.2, 0.5, 1), metrics=["logme", "ridge_probe"])


def test_the_whole_is_the_ranking_itself(curve: ScoreCurve) -> None:
    assert curve.rows == (18, 45, 90)
    whole = jaxte.rank(POOL, LABELS, metrics="logme")
    assert curve.scores("sighted", "logme")[-1] == pytest.approx(whole.score("sighted", "logme"))
    assert curve.first() == ["sighted"] * 3


def test_parts_grow_into_each_other_and_have_each_class_in_its_share() -> None:
    seen: list[np.ndarray] = []

    def counts(features: Any, labels: Any, *, weights: Any) -> float:
        seen.append(np.asarray(weights) > 0)
        return 0.0

    jaxte.score_curve({"a": NOISE}, LABELS, shares=(0.1, 0.5), metrics=[counts], seed=1)
    small, large = seen[0], seen[-1]
    assert np.all(large[small])
    assert np.bincount(LABELS[large]).tolist() == [30, 10, 5]


def test_it_is_drawn(curve: ScoreCurve, tmp_path: Path) -> None:
    figure = curve.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000
    assert [panel.get_title() for panel in figure.axes] == ["logme", "ridge_probe"]


def test_it_says_who_leads(curve: ScoreCurve) -> None:
    lines = [line.split() for line in repr(curve).splitlines()]
    assert lines[0] == ["rows", "logme", "ridge_probe"]
    assert lines[1:] == [[str(rows), "sighted", "sighted"] for rows in curve.rows]


def test_labels_and_weights_of_other_rows_are_named() -> None:
    with pytest.raises(InputError, match="labels have shape"):
        jaxte.score_curve(POOL, LABELS[:80], metrics="logme")
    with pytest.raises(InputError, match=r"weights have shape \(89,\), but there are 90 rows"):
        jaxte.score_curve(POOL, LABELS, weights=np.ones(89), metrics="logme")


@pytest.mark.parametrize("shares", [(), (0,), (1.2,), ("many",)])
def test_shares_that_cannot_be_are_refused(shares: Any) -> None:
    with pytest.raises(InputError, match="shares are"):
        jaxte.score_curve(POOL, LABELS, shares=shares)


def test_rows_are_drawn_by_targets_that_all_share() -> None:
    with pytest.raises(InputError, match="targets that all models share"):
        jaxte.score_curve(POOL, {"blind": LABELS, "sighted": LABELS})  # type: ignore[arg-type]


def test_a_metric_without_weights_is_refused() -> None:
    with pytest.raises(InputError, match="plain takes no weights"):
        jaxte.score_curve(POOL, LABELS, metrics=[plain])


def plain(features: Any, labels: Any) -> float:
    """A user's own metric."""
    return 0.0


def test_rows_of_weight_0_may_have_no_target() -> None:
    targets = np.where(np.arange(90) < 4, np.nan, NOISE[:, 0])
    weights = np.arange(90) >= 4
    curve = jaxte.score_curve({"a": NOISE}, targets, shares=(1,), metrics="logme", weights=weights)
    assert curve.rows == (86,)
