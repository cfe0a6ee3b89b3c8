"""Pictures: what they show, and that they can be saved without a display."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

import jaxte
from jaxte.evaluate import evaluate
from jaxte.report import chart, plots
from jaxte.zoo import Accuracy

LABELS = np.arange(30) % 3


def ranked() -> jaxte.Ranking:
    random = np.random.default_rng(1)
    features = {
        name: random.normal(size=(30, 4)) + shift * np.eye(3, 4)[LABELS]
        for name, shift in (("strong", 4), ("middle", 2), ("weak", 0.5), ("holed", 1))
    }
    features["holed"][0, 0] = np.inf
    return jaxte.rank(features, LABELS, metrics=("logme", "sfda", "face"))


def accuracy(mean: float) -> Accuracy:
    return Accuracy(mean, 0.01, mean, 0.01, (0, 1), (mean, mean), (mean, mean))


def texts(figure: plots.Chart) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_a_ranking_shows_every_model_and_rank(tmp_path: Path) -> None:
    ranking = ranked()
    figure = plots.plot_ranking(ranking, tmp_path / "ranking.svg")
    assert [ax.get_title() for ax in figure.axes] == list(ranking.metrics)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [*ranking.order("logme"), "holed"]
    for ax, metric in zip(figure.axes, ranking.metrics, strict=True):
        shown = [text.get_text() for text in ax.texts]
        assert sorted(shown) == ["1", "2", "3", "not scored"]
        points = {round(float(np.asarray(line.get_xdata())[0]), 9) for line in ax.lines}
        assert points == {round(ranking.score(m, metric), 9) for m in ranking.order(metric)}
    assert (tmp_path / "ranking.svg").read_text("utf-8").startswith("<?xml")


def test_names_are_shown_as_they_are_in_one_line() -> None:
    models = ["cost$1$", "two\nlines", "x" * 30 + "y" * 30, "plain"]
    eye = np.eye(3, 4)[LABELS]
    pool = {name: eye * k + np.random.default_rng(k).normal(size=(30, 4)) for k, name in
            enumerate(models)}  # fmt: skip
    ranking = jaxte.rank(pool, LABELS, metrics="logme")
    figure = plots.plot_ranking(ranking)
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    shown = "x" * 22 + "\N{HORIZONTAL ELLIPSIS}" + "y" * 21
    assert {label.get_text() for label in labels} == {"cost$1$", "two lines", shown, "plain"}
    assert not any(label.get_parse_math() for label in labels)
    assert chart.shown_names(["a" * 50 + "1" + "b" * 50, "a" * 50 + "2" + "b" * 50]) == {
        name: name for name in ("a" * 50 + "1" + "b" * 50, "a" * 50 + "2" + "b" * 50)
    }
    assert "two lines" in repr(ranking)


def test_agreement_shows_tau_and_error_bars(tmp_path: Path) -> None:
    ranking = ranked()
    measured = {"strong": accuracy(0.9), "middle": accuracy(0.8), "weak": accuracy(0.6)}
    figure = plots.plot_agreement(
        {"one": ranking, "two": ranking}, {"one": measured, "two": measured}
    )
    assert len(figure.axes) == 6
    logme = figure.axes[0]
    assert logme.get_title("left") == "one: logme\nweighted tau 1.00"
    assert sorted(text.get_text() for text in logme.texts) == ["middle", "strong", "weak"]
    assert len(logme.containers) == 1  # the error bars
    figure.savefig(tmp_path / "agreement.pdf")
    assert (tmp_path / "agreement.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("count", [3, 40])
def test_names_stand_apart_inside_the_picture(count: int) -> None:
    random = np.random.default_rng(2)
    names = [f"vit_base_patch16_224.augreg_in21k_ft_in1k-{i}" for i in range(count)]
    scores = dict(zip(names, random.normal(size=count), strict=True))
    accuracies = dict(zip(names, random.normal(size=count) ** 3, strict=True))  # many alike
    figure = plots.plot_agreement({"pets": {"logme": scores}}, {"pets": accuracies})
    shown = sorted(figure.axes[0].texts, key=lambda text: -text.get_position()[1])
    assert [text.get_text() for text in shown] == sorted(names, key=lambda n: -accuracies[n])
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in shown]  # without their lines
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    assert all(0 < box.x0 < box.x1 < figure.bbox.x1 for box in boxes)


def test_a_wide_pool_is_no_wider_than_a_page() -> None:
    ranking = dataclasses.replace(ranked(), meta={"data": "pets"})
    figure = plots.plot_ranking(ranking)
    assert figure.get_suptitle() == "pets"
    assert figure.get_figwidth() == chart.WIDTH


def test_pictures_show_themselves_and_leave_pyplot_alone() -> None:
    before = plt.get_fignums()
    figure = ranked().plot()
    assert isinstance(figure, plots.Chart)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("scores", "arrows"),
    [([1.0, 1.0, 1.0], 0), ([], 0), ([0.1, 0.2, 0.3, 0.25, -5e3], 1), ([0.1, 0.2, 0.4, 5.0], 0)],
)
def test_a_score_far_off_stands_at_the_edge(scores: list[float], arrows: int) -> None:
    figure = plots.Chart(3, 3)
    panel = figure.subplots()
    drawn = chart.fit_axis(panel, np.array(scores))
    low, high = panel.get_xlim()
    assert ((drawn > low) & (drawn < high)).all()
    marks = [chart.marker(score, at, "o") for score, at in zip(scores, drawn, strict=True)]
    assert sum(marker == "<" for marker, _ in marks) == arrows
    assert [text for _, text in marks if text] == [" (-5e+03)"] * arrows


def test_axes_of_equal_values_show_no_rounding() -> None:
    accuracies = {"a": 0.9, "b": 0.8, "c": 0.7}
    measures = evaluate(accuracies, accuracies, draws=20).plot()
    tied = jaxte.rank(
        {"a": np.eye(3)[np.arange(30) % 3], "b": np.eye(3)[np.arange(30) % 3] + 1},
        np.arange(30) % 3,
        metrics=[lambda features, labels, **_: float(features[0, 0]) * 1e-17],
    ).plot()
    for figure in (measures, tied):
        figure.draw_without_rendering()
        for panel in figure.axes:
            low, high = panel.get_xlim()
            assert high - low > 0.1
            assert panel.xaxis.get_offset_text().get_text() == ""
            assert not any("e" in tick.get_text() for tick in panel.get_xticklabels())
