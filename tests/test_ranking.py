"""The Ranking that rank() returns: terms, normalisation, and its ways out."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import blobs

import jaxte
from jaxte.metrics import face_terms

N = 40
Y = blobs(N, 5).targets
METRICS = ("logme", "face")
GOOD = ("weak", "middle", "strong")


def pool() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = 0.4 * rng.normal(size=(N, 6))
    found = {
        name: noise + s * np.eye(4, 6)[Y] for name, s in zip(GOOD, (0.3, 0.6, 1.0), strict=True)
    }
    return found | {"bad|name": np.full((N, 6), np.nan)}


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
    found = [ranking.score(name, "face") for name in GOOD]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.isnan(ranking.score("bad|name", "face"))


@pytest.mark.parametrize("how", ["minmax", "zscore"])
def test_a_term_that_is_the_same_for_all_adds_nothing(how: str) -> None:
    """Two classes are always fair: the constant term must not become 0/0."""
    y = np.minimum(Y, 1)
    found = jaxte.rank({n: pool()[n] for n in GOOD}, y, metrics=("face",), normalize=how)
    assert all(np.isfinite(found.score(n, "face")) for n in GOOD)
    collapse = [found.terms(n, "face")["variance_collapse"] for n in GOOD]
    order = [GOOD[i] for i in np.argsort(collapse)[::-1]]
    assert found.order("face") == order


def test_normalizing_one_model_is_finite() -> None:
    for how in ("minmax", "zscore"):
        found = jaxte.rank({"only": pool()["weak"]}, Y, metrics=("face",), normalize=how)
        assert np.isfinite(found.score("only", "face"))


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
    ranking.to_csv(path)
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
    ranking.to_json(path)

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    records = data["records"] if isinstance(data, dict) else data
    found = {(r["model"], r["metric"]): r for r in records}
    assert len(found) == 8
    for name in GOOD:
        assert found[name, "logme"]["score"] == ranking.score(name, "logme")
    assert found["bad|name", "logme"]["score"] is None


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
    found = jaxte.rank({"first": x, "second": x.copy()}, Y, metrics=("logme",))
    assert found.order("logme") == ["first", "second"]
    assert found.best("logme") == "first"
    assert [record["rank"] for record in found.to_records()] == [1, 1]


def test_meta_tells_what_was_done(ranking: jaxte.Ranking) -> None:
    meta = dict(ranking.meta)
    assert json.loads(json.dumps(meta)) == meta
    assert meta["precision"] in {"float32", "float64"}
    assert meta["num_classes"] == 4
    assert meta["normalize"] == "sum"
