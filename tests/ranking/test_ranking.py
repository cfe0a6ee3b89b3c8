"""The Ranking that rank() returns: terms, normalisation, and its ways out."""

import copy
import csv
import dataclasses
import json
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import blobs

import jaxte
from jaxte.metrics import face_terms, get_metric
from jaxte.ranking.notes import notes_on

N = 40
Y = blobs(N, 5).targets
METRICS = ("logme", "face")
GOOD = ("weak", "middle", "strong")


def pool() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = 0.4 * rng.normal(size=(N, 6))
    result = {
        name: noise + s * np.eye(4, 6)[Y] for name, s in zip(GOOD, (0.3, 0.6, 1.0), strict=True)
    }
    return result | {"bad|name": np.full((N, 6), np.nan)}


@pytest.fixture(scope="module", params=["sum", "minmax", "zscore"])
def normalized(request: pytest.FixtureRequest) -> tuple[str, jaxte.Ranking]:
    return request.param, jaxte.rank(pool(), Y, metrics=METRICS, normalize=request.param)


@pytest.fixture(scope="module")
def ranking() -> jaxte.Ranking:
    return jaxte.rank(pool(), Y, metrics=METRICS)


def test_raw_terms_are_kept(normalized: tuple[str, jaxte.Ranking]) -> None:
    _, ranking = normalized
    for name in GOOD:
        expected = face_terms(pool()[name], Y)
        terms = ranking.terms(name, "face")
        assert set(terms) == {"variance_collapse", "class_fairness"}
        assert terms["variance_collapse"] == pytest.approx(
            float(expected.variance_collapse), rel=1e-3
        )
        assert terms["class_fairness"] == pytest.approx(float(expected.class_fairness), rel=1e-3)


def test_scores_are_sums_of_normalized_terms(normalized: tuple[str, jaxte.Ranking]) -> None:
    """The failed model takes no part in the pool's smallest, largest, mean or deviation."""
    how, ranking = normalized
    scale = {
        "sum": lambda v: v,
        "minmax": lambda v: (v - v.min()) / (v.max() - v.min()),
        "zscore": lambda v: (v - v.mean()) / v.std(),
    }[how]
    terms = [ranking.terms(name, "face") for name in GOOD]
    expected = sum(
        scale(np.array([t[key] for t in terms])) for key in ("variance_collapse", "class_fairness")
    )
    result = [ranking.score(name, "face") for name in GOOD]
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-12)
    assert np.isnan(ranking.score("bad|name", "face"))


@pytest.mark.parametrize("how", ["minmax", "zscore"])
def test_a_term_that_is_the_same_for_all_adds_nothing(how: str) -> None:
    """Two classes are always fair: the constant term must not become 0/0."""
    y = np.minimum(Y, 1)
    result = jaxte.rank({n: pool()[n] for n in GOOD}, y, metrics=("face",), normalize=how)
    assert all(np.isfinite(result.score(n, "face")) for n in GOOD)
    collapse = [result.terms(n, "face")["variance_collapse"] for n in GOOD]
    order = [GOOD[i] for i in np.argsort(collapse)[::-1]]
    assert result.order("face") == order


def test_normalizing_one_model_is_finite() -> None:
    for how in ("minmax", "zscore"):
        result = jaxte.rank({"only": pool()["weak"]}, Y, metrics=("face",), normalize=how)
        assert np.isfinite(result.score("only", "face"))


def test_unknown_model_or_metric(ranking: jaxte.Ranking) -> None:
    with pytest.raises(jaxte.InputError, match="nobody"):
        ranking.score("nobody", "logme")
    with pytest.raises(jaxte.InputError, match="sfda"):
        ranking.order("sfda")


def test_records(ranking: jaxte.Ranking) -> None:
    records = ranking.to_records()
    pairs = {(m, k) for m in (*GOOD, "bad|name") for k in METRICS}
    assert {(r["model"], r["metric"]) for r in records} == pairs
    assert len(records) == len(pairs)
    for record in records:
        model, metric = record["model"], record["metric"]
        assert record["status"] == ranking.status(model, metric)
        if record["status"] == "ok":
            assert record["score"] == ranking.score(model, metric)
            assert record["rank"] == ranking.order(metric).index(model) + 1
        for term, value in ranking.terms(model, metric).items():
            np.testing.assert_equal(record[term], value)


def test_csv_round_trip(ranking: jaxte.Ranking, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert ranking.to_csv(path) == ranking.to_csv()
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        assert row["status"] == ranking.status(row["model"], row["metric"])
        if row["status"] == "ok":
            assert float(row["score"]) == ranking.score(row["model"], row["metric"])
            assert int(row["rank"]) == ranking.order(row["metric"]).index(row["model"]) + 1


def test_json_round_trip(ranking: jaxte.Ranking, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert ranking.to_json(path) == ranking.to_json()

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    records = data["records"] if isinstance(data, dict) else data
    result = {(r["model"], r["metric"]): r for r in records}
    assert len(result) == 8
    for name in GOOD:
        assert result[name, "logme"]["score"] == ranking.score(name, "logme")
    assert result["bad|name", "logme"]["score"] is None


def test_pandas(ranking: jaxte.Ranking) -> None:
    frame = ranking.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 8
    table = frame.set_index(["model", "metric"])
    for name in GOOD:
        assert table.loc[(name, "face"), "score"] == ranking.score(name, "face")
    assert np.isnan(table.loc[("bad|name", "face"), "score"])


def test_markdown(ranking: jaxte.Ranking) -> None:
    text = ranking.to_markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert all(any(name in line for line in lines) for name in GOOD)


def test_representations(ranking: jaxte.Ranking) -> None:
    assert all(name in repr(ranking) for name in (*GOOD, "bad|name", *METRICS))
    html = ranking._repr_html_()
    assert "<table" in html
    assert all(name in html for name in GOOD)


def test_names_are_escaped_in_html() -> None:
    x = pool()["weak"]
    html = jaxte.rank({"<script>": x, "b": x}, Y, metrics=("logme",))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_ties_keep_the_given_order_and_share_their_rank() -> None:
    x = pool()["weak"]
    result = jaxte.rank({"first": x, "second": x.copy()}, Y, metrics=("logme",))
    assert result.order("logme") == ["first", "second"]
    assert result.best("logme") == "first"
    assert [record["rank"] for record in result.to_records()] == [1, 1]


def test_meta_tells_what_was_done(ranking: jaxte.Ranking) -> None:
    meta = dict(ranking.meta)
    assert json.loads(json.dumps(meta)) == meta
    assert meta["precision"] in {"float32", "float64"}
    assert meta["num_classes"] == 4
    assert meta["normalize"] == "sum"


# --- kept and read back ---------------------------------------------------------------------------

ODD = ("a,b", 'q"x"', "ü@last", "two\nlines", "one\rline", "", " {", "middle")


def odd(precision: str = "float32") -> jaxte.Ranking:
    """Names, scores and reasons that a text form might lose."""
    pairs = [(name, metric) for name in ODD for metric in METRICS]
    scores = {pair: i / 7 for i, pair in enumerate(pairs)}
    scores["a,b", "face"] = scores["a,b", "logme"] + 5e-8  # a tie in one precision only
    scores["", "face"], scores["middle", "logme"] = -math.inf, math.nan
    statuses = dict.fromkeys(pairs, "ok")
    statuses["", "face"] = statuses["middle", "logme"] = 'cannot, "really"\nnot'
    terms = {
        (name, "face"): {"variance_collapse": 0.1, "class_fairness": 1 / 3} for name in ODD[:5]
    }
    meta = {"precision": precision, "seconds": 0.5, "options": {"face": {"temperature": 0.05}}}
    return jaxte.Ranking(ODD, METRICS, ("one, note", "ü"), meta, scores, statuses, terms)


@pytest.fixture(params=["real", "odd", "odd in float64"])
def kept(request: pytest.FixtureRequest, ranking: jaxte.Ranking) -> jaxte.Ranking:
    return {"real": ranking, "odd": odd(), "odd in float64": odd("float64")}[request.param]


COPIES: dict[str, Callable[[jaxte.Ranking], jaxte.Ranking]] = {
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_equal(how: str, kept: jaxte.Ranking) -> None:
    again = COPIES[how](kept)
    assert again == kept
    assert again.to_records() == kept.to_records()
    assert (again.notes, dict(again.meta)) == (kept.notes, dict(kept.meta))


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("source", ["path", "name", "text"])
def test_what_is_written_is_read_back(
    form: str, source: str, kept: jaxte.Ranking, tmp_path: Path
) -> None:
    path = tmp_path / f"ranking.{form}"
    getattr(kept, f"to_{form}")(path)
    text = path.read_bytes().decode()
    argument = {"path": path, "name": str(path), "text": text}[source]
    again = getattr(jaxte.Ranking, f"from_{form}")(argument)
    assert again == kept
    assert again.to_records() == kept.to_records()
    assert [again.order(metric) for metric in METRICS] == [kept.order(m) for m in METRICS]
    getattr(again, f"to_{form}")(path)
    assert path.read_bytes().decode() == text
    if form == "json":
        assert again.notes == kept.notes
        assert again.meta == json.loads(json.dumps(dict(kept.meta)))


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]\n",
        "model,metric\na,logme\n",
        "model,metric,score,rank,status\n",
        "model,metric,score,rank,status\na,logme,high,1,ok\n",
        "model,metric,score,rank,status\na,logme,1,1,ok\na,logme,2,1,ok\n",
        "model,metric,score,rank,status\na,logme,1,1,ok\nb,face,2,1,ok\n",
        '{"models": ["a"], "metrics": ["logme"], "notes": [], "meta": {}, "records": []}',
        '{"models": ["a"], "metrics": ["logme"], "notes": [], "meta": {}, "records": 3}',
    ],
)
def test_a_file_that_is_no_ranking_is_named(form: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_text(text)
    for argument in (path, tmp_path / "missing"):
        with pytest.raises(jaxte.InputError, match=str(argument)):
            getattr(jaxte.Ranking, f"from_{form}")(argument)


def test_rankings_that_differ_are_not_equal() -> None:
    one = odd()
    changed = dict(one._scores) | {("a,b", "logme"): 9.0}
    other = dataclasses.replace(one, _scores=changed)
    assert one == odd("float64")  # how it was computed is not what was found
    assert one != other
    assert one != dataclasses.replace(one, models=tuple(reversed(ODD)))
    assert one != "ranking"


def test_a_score_that_does_not_count_is_nan() -> None:
    assert math.isnan(odd().score("", "face"))


# --- ties -----------------------------------------------------------------------------------------


def scored(scores: Mapping[str, float], precision: str, metric: str = "sfda") -> jaxte.Ranking:
    pairs = {(name, metric): score for name, score in scores.items()}
    return jaxte.Ranking(
        tuple(scores),
        (metric,),
        tuple(notes_on(get_metric(metric), {}, scores, 3, precision)),
        {"precision": precision},
        pairs,
        dict.fromkeys(pairs, "ok"),
    )


@pytest.mark.parametrize("size", [1e-3, 1.0, 3e4])
@pytest.mark.parametrize(("precision", "gap"), [("float64", 1e-9), ("float32", 1e-6)])
def test_ranks_notes_and_stars_agree_on_what_a_tie_is(
    size: float, precision: str, gap: float
) -> None:
    step = gap * max(1, size)
    for factor, tied in ((0.5, 2), (2.0, 1)):
        result = scored({"b": size - factor * step, "low": -size, "a": size}, precision)
        ranks = {record["model"]: record["rank"] for record in result.to_records()}
        assert ranks == {"b": 1 if tied == 2 else 2, "low": 3, "a": 1}
        assert [result.place(name, "sfda") for name in ("a", "b")] == [ranks["a"], ranks["b"]]
        assert repr(result).count("*") == (tied == 1)  # of a tie none is marked
        assert any("2 of 3 models tie" in note and "(b, a)" in note for note in result.notes) == (
            tied == 2
        )


def test_ties_do_not_add_up() -> None:
    """Each model ties with the best of its group, not with the one before it."""
    steps = {f"{i}": 1 - i * 0.7e-9 for i in range(4)}
    result = scored(steps, "float64")
    assert [result.place(name, "sfda") for name in steps] == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("scores", "ceiling"),
    [
        ({"a": 1.0, "b": 1.0, "c": 0.3}, True),
        ({"a": 1 - 1e-12, "b": 1.0, "c": 0.3}, True),
        ({"a": 0.7, "b": 0.7, "c": 0.3}, False),
        ({"a": 1.0, "b": 0.7}, False),
        ({"a": 1.0}, False),
    ],
)
def test_sfda_saturates_only_at_its_ceiling(scores: dict[str, float], ceiling: bool) -> None:
    result = scored(scores, "float64")
    assert any("saturates" in note for note in result.notes) == ceiling
    assert any("ceiling" in note for note in result.notes) == ceiling


def test_a_metric_without_a_ceiling_does_not_reach_it() -> None:
    parts = {name: {"bounded": 0.0, "unconverged": 0.0} for name in ("a", "b")}
    said = notes_on(get_metric("logme"), parts, {"a": 1e9, "b": 1e9}, 3, "float64")
    assert len(said) == 1
    assert "ceiling" not in said[0]


def test_names_in_notes_and_reports_come_in_the_order_given() -> None:
    """Not in that in which threads were ready: the large ones come last there."""
    rng = np.random.default_rng(0)
    widths = {"z": 60, "y": 6, "x": 50, "w": 5, "v": 45, "u": 90, "t": 7}
    x = {name: rng.normal(size=(N, d)) for name, d in widths.items()}
    result = jaxte.rank(x, Y, metrics=("logme", "sfda"))
    for note in result.notes:
        listed = [name for name in re.findall(r"\b[t-z]\b", note) if name in widths]
        assert listed == sorted(listed, key=list(widths).index), note
    assert any("z, x, v, u" in note for note in result.notes)
