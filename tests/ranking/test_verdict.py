"""The recommended order, with and without a history."""

from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError

Y = np.arange(120) % 4
METRICS: dict[str, Any] = {"metrics": ["logme", "ridge_probe"]}


def pool() -> dict[str, np.ndarray]:
    """Features ever further from the classes: a, b, c, d."""
    rng = np.random.default_rng(1)
    means = rng.normal(size=(4, 10))
    sizes = {"a": 0.6, "b": 0.5, "c": 0.3, "d": 0.0}
    return {name: rng.normal(size=(120, 10)) + size * means[Y] for name, size in sizes.items()}


def test_without_history_the_probe_decides() -> None:
    ranking = jaxte.rank(pool(), Y, **METRICS)
    assert ranking.order() == ranking.order("ridge_probe") == list("abcd")
    assert ranking.best() == "a"
    assert ranking.verdict() == "Fine-tune a, by ridge_probe; next in line: b, c."
    assert jaxte.rank(pool(), Y, metrics="sfda").order() == list("abcd")
    undecided = jaxte.rank(pool(), Y, metrics=["logme", "face"])
    assert undecided.verdict() == ""
    with pytest.raises(InputError, match="ridge_probe"):
        undecided.order()


@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_a_note_where_no_model_tells_anything(task: str) -> None:
    random = np.random.default_rng(5)
    models = {name: random.normal(size=(120, 10)) for name in "abc"}
    targets = random.permutation(Y) if task == "classes" else random.normal(size=120)
    known = "frequencies" if task == "classes" else "mean"
    blind = jaxte.rank(models, targets, metrics="ridge_probe")
    (note,) = blind.notes
    assert blind.verdict().startswith("No model predicts better than chance; if it must be one, ")
    assert note.startswith(f"ridge_probe: no model predicts the targets better than their {known} ")
    models["d"] = models["c"] + 1.5 * np.eye(4, 10)[targets] if task == "classes" else targets
    models["d"] = np.reshape(models["d"], (120, -1))
    assert not jaxte.rank(models, targets, metrics="ridge_probe").notes


def test_floats_that_look_like_classes_are_pointed_out() -> None:
    (note,) = jaxte.rank(pool(), Y.astype(float), metrics="ridge_probe").notes
    assert note.startswith("The targets are float64 with 4 whole values, 0 to 3: they count as ")
    assert not jaxte.rank(pool(), Y + 0.5, metrics="ridge_probe").notes


def test_no_chance_is_certain() -> None:
    apart = {"good": 9 * np.eye(4)[Y], "noise": np.random.default_rng(0).normal(size=(120, 4))}
    apart["good"] += apart["noise"]
    said = jaxte.rank(apart, Y, metrics="ridge_probe", intervals=True).verdict()
    assert said.endswith("first on other samples too with a chance of >99%.")


def test_a_history_joins_in() -> None:
    """It turns what is close, not what is far apart; a model without one is an average one."""
    history = [
        {"model": m, "dataset": d, "accuracy": a}
        for d in ("t1", "t2")
        for m, a in (("a", 0.5), ("b", 0.9), ("d", 0.8))
    ]
    ranking = jaxte.rank(pool(), Y, history=history, **METRICS)
    assert ranking.metrics == ("logme", "ridge_probe", "history")
    assert [ranking.score(m, "history") for m in "abd"] == [0, 1, 0.5]
    assert "does not name" in ranking.status("c", "history")
    assert ranking.order() == list("bacd")
    assert ranking.order("ridge_probe") == list("abcd")


def test_a_history_survives_the_way_to_a_file_and_back(tmp_path: Any) -> None:
    history = {"t1": {"a": 0.1, "b": 0.9, "c": 0.3, "d": 0.2}}
    ranking = jaxte.rank(pool(), Y, history=history, **METRICS)
    ranking.to_json(tmp_path / "ranking.json")
    assert jaxte.Ranking.from_json(tmp_path / "ranking.json").order() == ranking.order()


def test_moments_of_other_numbers_of_rows_have_a_note() -> None:
    x, empty = pool()["a"], jaxte.moments.init(10, num_classes=4)
    models = {
        name: jaxte.moments.update(empty, x[:n], Y[:n]) for name, n in (("a", 60), ("b", 120))
    }
    ranking = jaxte.rank(models, metrics="hscore", intervals=False)
    assert any("different numbers of rows (a 60, b 120)" in note for note in ranking.notes)


def test_a_history_of_other_models_is_an_error() -> None:
    with pytest.raises(InputError, match="none of these models"):
        jaxte.rank(pool(), Y, history={"t1": {"x": 0.5, "y": 0.6}}, **METRICS)
