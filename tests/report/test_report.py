"""A ranking in every form: the same cells, best marked, failures named, markup escaped."""

import csv
import io
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import report
from jaxte.report import tables
from jaxte.report.provenance import sentence

LABELS = np.arange(40) % 4
NAMES = ("a|b", "<i>c</i>", "wide", "holed")


@pytest.fixture(scope="module")
def ranking() -> jaxte.Ranking:
    random = np.random.default_rng(0)
    features = {
        name: random.normal(size=(40, width)) + np.outer(LABELS == 1, np.ones(width)) * shift
        for name, width, shift in zip(NAMES, (5, 5, 60, 5), (0, 3, 1, 1), strict=True)
    }
    features["holed"][3, 1] = math.nan
    return jaxte.rank(features, LABELS, metrics=("logme", "sfda", "face"))


def test_text_fits_the_width_and_marks_the_best(ranking: jaxte.Ranking) -> None:
    text = report.to_text(ranking, width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["model", "logme", "#", "sfda", "#", "face", "#"]
    rows = [line.split() for line in lines[2:6]]
    assert [row[0] for row in rows] == [*ranking.order("logme"), "holed"]
    assert rows[0][1] == f"*{ranking.score(rows[0][0], 'logme'):.4f}"
    assert rows[0][2] == "1"
    assert rows[3][1:] == ["–", "–", "–"]
    assert "not scored:" in text
    assert f"holed: {ranking.status('holed', 'logme')}" in " ".join(text.split())


def test_metrics_that_do_not_fit_follow_below(ranking: jaxte.Ranking) -> None:
    text = report.to_text(ranking, width=30)
    head = [line.split() for line in text.splitlines() if line.startswith("model")]
    assert head == [["model", metric, "#"] for metric in ("logme", "sfda", "face")]
    assert text.count("wide") >= 3


def test_rich_shows_the_characters_of_the_text(ranking: jaxte.Ranking) -> None:
    for width in (30, 80, 120):
        assert report.to_rich(ranking, width=width).plain == report.to_text(ranking, width=width)


def test_markdown_keeps_its_columns(ranking: jaxte.Ranking) -> None:
    lines = report.to_markdown(ranking).splitlines()
    assert lines[0] == "| model | logme | # | sfda | # | face | # |"
    for line in lines[:6]:
        assert line.replace("\\|", "").count("|") == 8
    assert any(line.startswith("| a\\|b |") for line in lines)
    assert sum("**" in line for line in lines[2:5]) >= 1


class Cells(HTMLParser):
    """The texts of a page's table cells; fails on a tag that the report does not write."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.tags == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in {"table", "thead", "tbody", "tfoot", "tr", "th", "td", "p", "ul", "li"}
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_is_well_formed_and_escaped(ranking: jaxte.Ranking) -> None:
    cells = Cells(report.to_html(ranking)).texts
    for name in NAMES:
        assert name in cells
    assert "font-weight:bold" in report.to_html(ranking)


def test_csv_and_json_hold_the_records(ranking: jaxte.Ranking) -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv(ranking, problems={"x": 'why, "so"'}))))
    assert len(rows) == 15
    assert rows[-1]["model"] == "x"
    assert rows[-1]["status"] == 'why, "so"'
    content = json.loads(report.to_json(ranking, problems={"x": "why"}))
    assert content["models"] == [*NAMES, "x"]
    assert content["notes"] == list(ranking.notes)
    for row, record in zip(rows, content["records"], strict=True):
        assert row["model"] == record["model"]
        if record["score"] is None:
            assert row["score"] == ""
        else:
            assert float(row["score"]) == record["score"]
            assert record["score"] == ranking.score(record["model"], record["metric"])


def test_extra_columns_a_footer_and_lost_models(ranking: jaxte.Ranking) -> None:
    table = report.table(
        ranking,
        order=["wide", "a|b", "<i>c</i>"],
        columns={"measured": {"wide": "0.9"}},
        footer=("tau", {"logme": 0.25, "face": math.nan}),
        problems={"lost": "no file"},
    )
    lines = report.to_text(table).splitlines()
    assert [line.split()[0] for line in lines[2:7]] == ["wide", "a|b", "<i>c</i>", "holed", "lost"]
    assert lines[2].split()[1] == "0.9"
    assert lines[3].split()[1] == "–"
    assert lines[8].split() == ["tau", "0.250", "–", "–"]
    assert "lost: no file" in report.to_text(table)
    assert "| tau |  | 0.250 |" in report.to_markdown(table)


@pytest.mark.parametrize(
    ("score", "shown"),
    [(0.0, "0.0000"), (-0.25, "-0.2500"), (3.2e-5, "3.2e-05"), (-54321.0, "-5.432e+04")],
)
def test_numbers_are_shown_with_four_figures(score: float, shown: str) -> None:
    assert tables._number(score) == shown


def test_every_form_says_where_the_scores_come_from(ranking: jaxte.Ranking) -> None:
    said = sentence(ranking.meta)
    assert said.startswith(f"jaxte {jaxte.__version__}, 40 rows, 4 classes, 5 to 60 columns, float")
    assert said in report.to_markdown(ranking)
    assert said in report.to_html(ranking)
    figure = ranking.plot()
    assert said in " ".join(str(figure.get_supxlabel()).split())
    lines = list(csv.DictReader(io.StringIO(report.to_csv(ranking))))
    assert [(line["n"], line["width"], line["classes"]) for line in lines[:3]] == [
        ("40", "5", "4"), ("40", "5", "4"), ("40", "60", "4"),
    ]  # fmt: skip
    again = jaxte.Ranking.from_csv(report.to_csv(ranking))
    assert sentence(again.meta) == said


def test_a_csv_says_all_of_layers_streams_and_permutations() -> None:
    x = np.random.default_rng(1).normal(size=(40, 5))
    layers = {"a": {"layers": {"x": x, "y": x[:, :3]}}, "b": {"layers": {"x": x}}}
    how: dict[str, Any] = {"permutations": 2, "seed": 3, "weights": np.ones(40)}
    folded = jaxte.rank(layers, LABELS, metrics="logme", layers="best", **how)
    assert folded.meta["n"] == {"a": 40, "b": 40}
    streamed = jaxte.rank({"a": [(x[:9], LABELS[:9]), (x[9:], LABELS[9:])]}, metrics="logme")
    assert "40 rows, 4 classes, 5 columns" in sentence(streamed.meta)
    for ranking in (folded, streamed):
        again = jaxte.Ranking.from_csv(report.to_csv(ranking))
        assert sentence(ranking.meta) == sentence(again.meta)
        assert ranking.meta["widths"] == again.meta["widths"]


def test_a_csv_has_the_chances_to_lead_with_a_history() -> None:
    x = np.random.default_rng(1).normal(size=(40, 5))
    history = {f"set {k}": {"a": 0.9, "b": 0.8} for k in range(2)}
    ranking = jaxte.rank(
        {"a": x, "b": x + LABELS[:, None], "c": np.full((40, 5), np.nan)}, LABELS,
        metrics="logme", history=history, intervals=True,
    )  # fmt: skip
    again = jaxte.Ranking.from_csv(report.to_csv(ranking))
    assert again.p_best() == ranking.p_best() != {}
    assert again.interval("a", "history") is None
    assert again.verdict() == ranking.verdict()


@pytest.mark.parametrize(
    "how",
    [{"options": {"face": {"temperature": 0.1}}}, {"perturb": "spread"}, {"precision": "float32"},
     {"normalize": "rank"}, {"weights": np.ones(40)}],
)  # fmt: skip
def test_two_runs_that_differ_never_look_the_same(how: dict[str, Any]) -> None:
    x = {"a": np.random.default_rng(1).normal(size=(40, 5))}
    plain, other = (jaxte.rank(x, LABELS, metrics="face", **own) for own in ({}, how))
    for show in (report.to_csv, report.to_markdown, report.to_html):
        texts = [show(replace(own, meta={**own.meta, "date": ""})) for own in (plain, other)]
        scores = [f"{own.score('a', 'face')}" for own in (plain, other)]
        short = [f"{own.score('a', 'face'):.4f}" for own in (plain, other)]
        same = [
            text.replace(long, "x").replace(brief, "x")
            for text, long, brief in zip(texts, scores, short, strict=True)
        ]
        assert same[0] != same[1]
