"""Priors: of scores, of means, of other data sets; and what they do to a race."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte.errors import InputError
from jaxte.race.prior import prior_of

from .pools import Pool

NAMES = ("a", "b", "c")
HISTORY: list[dict[str, Any]] = [
    {"model": model, "dataset": dataset, "accuracy": level + gain}
    for dataset, level in (("one", 0.5), ("two", 0.9), ("three", 0.7))
    for model, gain in (("a", 0.05), ("b", 0.02), ("c", -0.04))
]


def test_nothing_known_is_standard_normal() -> None:
    prior = prior_of(NAMES, None, None)
    assert prior.standard
    assert prior.mean.tolist() == [0, 0, 0]
    assert prior.sd.tolist() == [1, 1, 1]


def test_scores_are_standardised_and_shrunk_whatever_their_unit() -> None:
    one = prior_of(NAMES, {"a": 1, "b": 2, "c": 4}, None)
    other = prior_of(NAMES, {"a": 101, "b": 102, "c": 104}, None)
    np.testing.assert_allclose(one.mean, other.mean)
    assert abs(one.mean).max() < 1
    np.testing.assert_allclose(one.sd, np.sqrt(0.75))


def test_a_model_without_score_stays_open() -> None:
    prior = prior_of(NAMES, {"a": 1, "b": 2, "c": float("nan")}, None)
    assert (prior.mean[2], prior.sd[2]) == (0, 1)
    assert prior_of(NAMES, {"a": 1, "b": 1}, None).sd.tolist() == [1, 1, 1]


def test_names_of_no_model_are_refused() -> None:
    for prior in ({"a": 1, "b": 2, "C": 3}, {"a": (1, 1), "b": (2, 1), "c": (3, 1), "d": (1, 1)}):
        with pytest.raises(InputError, match=r"prior names (C|d), which are none of the models"):
            prior_of(NAMES, prior, None)
    with pytest.raises(InputError, match="prior is 5"):
        jaxte.race(list(NAMES), trial=lambda *_: [1.0], prior=5)  # type: ignore[arg-type]


def test_means_are_taken_as_they_are() -> None:
    prior = prior_of(NAMES, {"a": (0.7, 0.1), "b": (0.8, 0.1), "c": (0.9, 0.2)}, None)
    assert not prior.standard
    assert prior.mean.tolist() == [0.7, 0.8, 0.9]
    assert prior.sd.tolist() == [0.1, 0.1, 0.2]


def test_history_says_more_the_more_data_sets_agree(tmp_path: Path) -> None:
    agreeing = prior_of(NAMES, None, HISTORY)
    assert agreeing.mean.argsort().tolist() == [2, 1, 0]
    assert agreeing.sd.max() < 0.5
    one = prior_of(NAMES, None, HISTORY[:3])
    assert abs(one.mean).max() < abs(agreeing.mean).max()
    assert one.sd.min() > agreeing.sd.max()
    file = tmp_path / "history.csv"
    lines = [f"{r['model']},{r['dataset']},{r['accuracy']}" for r in HISTORY]
    file.write_text("\n".join(["model,dataset,accuracy", *lines]))
    np.testing.assert_allclose(prior_of(NAMES, None, file).mean, agreeing.mean)
    pandas = pytest.importorskip("pandas")
    frame = prior_of(NAMES, None, pandas.DataFrame(HISTORY))
    np.testing.assert_allclose(frame.mean, agreeing.mean)


def test_history_that_contradicts_itself_says_little() -> None:
    flipped = [
        {**record, "accuracy": -record["accuracy"]} if record["dataset"] == "one" else record
        for record in HISTORY[:6]
    ]
    prior = prior_of(NAMES, None, flipped)
    assert abs(prior.mean).max() < 0.1
    assert prior.sd.min() > 0.95


def test_scores_and_history_join() -> None:
    scores = {"a": 3.0, "b": 2.0, "c": 1.0}
    both = prior_of(NAMES, scores, HISTORY)
    alone = prior_of(NAMES, None, HISTORY)
    assert (both.sd < alone.sd).all()
    with pytest.raises(InputError, match="give one"):
        prior_of(NAMES, dict.fromkeys(NAMES, (0.5, 0.1)), HISTORY)


def test_a_good_prior_helps_and_a_budget_too_small_leaves_it_alone() -> None:
    pools = [Pool(10, seed, drift=0.06) for seed in range(25)]
    options = {"budget": 0.07, "rungs": (1 / 16, 1.0)}
    won = {}
    for known in (False, True):
        won[known] = np.mean(
            [
                pool.final[
                    jaxte.race(
                        pool.names,
                        trial=pool.trial,
                        prior={n: (f, 0.02) for n, f in pool.final.items()} if known else None,
                        **options,  # type: ignore[arg-type]
                    ).best
                ]
                for pool in pools
            ]
        )
    assert won[True] > won[False]
    pool = Pool(10, 0)
    race = jaxte.race(pool.names, trial=pool.trial, prior=pool.final, budget=0.033, rungs=(1 / 16,))
    assert len(pool.calls) == 5
    tried = {model for model, _, _ in pool.calls}
    assert tried == set(sorted(pool.final, key=pool.final.__getitem__)[-5:])
    assert any("prior alone" in note for note in race.notes)
    assert all(race.stop(name).trained is None for name in set(pool.names) - tried)
