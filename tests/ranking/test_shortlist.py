"""Many models on growing parts of the rows, from which those that cannot win are dropped."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte.errors import InputError
from jaxte.ranking.intervals import covariance_of
from jaxte.ranking.shortlist import Shortlist
from jaxte.store import Writer

ROWS, CLASSES = 600, 4
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, CLASSES, ROWS)
NAMES = np.array(["ant", "bee", "cow", "dog"])
SHARED = RNG.normal(size=(ROWS, 8))


def features(strength: float, seed: int) -> np.ndarray:
    noise = SHARED + np.random.default_rng(seed).normal(size=SHARED.shape)
    return noise + strength * np.eye(8)[LABELS]


POOL = {f"model {i}": features(0.08 * i, i) for i in range(16)}


class Counted:
    """A model that remembers the rows it was asked for."""

    def __init__(self, own: np.ndarray) -> None:
        self.own, self.rows = own, list[int]()

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.rows += rows.tolist()
        return self.own[rows]


@pytest.fixture(scope="module")
def asked() -> tuple[dict[str, Counted], Shortlist]:
    models = {name: Counted(own) for name, own in POOL.items()}
    return models, jaxte.shortlist(models, NAMES[LABELS], metric="hscore")


def test_the_best_is_kept_and_ranked_as_ever(asked: Any) -> None:
    _, short = asked
    whole = jaxte.rank(POOL, NAMES[LABELS], metrics="hscore")
    assert short.best == whole.best()
    left = {name: POOL[name] for name in POOL if name not in short.dropped}
    assert short.ranking == jaxte.rank(left, NAMES[LABELS], metrics="hscore")
    assert short.ranking.meta["class_names"] == tuple(NAMES)
    assert len(short.dropped) > len(POOL) / 2
    assert sum(one.p_best for one in short.dropped.values()) <= 0.1


def test_a_model_gives_each_row_once_and_only_while_it_is_in(asked: Any) -> None:
    models, short = asked
    for name, model in models.items():
        dropped = short.dropped.get(name)
        assert len(set(model.rows)) == len(model.rows) == (dropped.rows if dropped else ROWS)
    read = sum(len(model.rows) for model in models.values())
    assert short.cost == pytest.approx(read / (ROWS * len(POOL)))
    first = models["model 0"].rows
    assert len(first) == short.stages[0][0] == 240
    shares = np.bincount(LABELS[first]) / len(first)
    assert shares == pytest.approx(np.bincount(LABELS) / ROWS, abs=0.02)
    assert f"for {short.cost:.0%} of the forward passes" in short.verdict() in repr(short)


def test_a_model_that_fails_has_its_reason_and_stops_no_other() -> None:
    def late(rows: np.ndarray) -> np.ndarray:
        if len(rows) < 200:
            raise OSError("the file is gone")
        return POOL["model 15"][rows]

    def fewer(rows: np.ndarray) -> np.ndarray:
        return POOL["model 14"][rows[1:]]

    models: dict[str, Any] = {"late": late, "fewer": fewer, **{m: POOL[m] for m in list(POOL)[:3]}}
    models["tied"] = POOL["model 2"].copy()
    models |= {"rows and labels": lambda rows: (POOL["model 2"][rows], rows), "path": "a.npy"}
    models["a number"] = lambda _: 3.0
    short = jaxte.shortlist(models, LABELS, metric="hscore", shares=(0.4, 0.65, 1.0))
    assert dict(short.stages)[240] == 9
    status = {name: short.ranking.status(name, "hscore") for name in ("late", "fewer")}
    assert status == {
        "late": "OSError: the file is gone",
        "fewer": "it gave 239 rows where 240 were asked for",
    }
    assert {"model 2", "tied"} <= set(short.ranking.models)
    assert short.stages[-1] == (ROWS, 9 - len(short.dropped))
    for name in ("rows and labels", "path", "a number"):
        assert "give an array [b, d]" in short.ranking.status(name, "hscore")


def test_models_that_are_the_same_are_kept_in_any_form() -> None:
    own = POOL["model 3"]
    lists = {"lists": lambda rows: own[rows].tolist(), "array": own}
    short = jaxte.shortlist(lists, LABELS, metric="hscore", shares=(0.5, 1.0))
    assert not short.dropped
    assert short.verdict() == (
        "Fine-tune lists or array (they tie), by hscore. No model was dropped on fewer rows."
    )


def test_layers_stores_and_histories_go_through(tmp_path: Any) -> None:
    def stored(own: np.ndarray, name: str) -> Callable[[np.ndarray], jaxte.FeatureStore]:
        def extracted(rows: np.ndarray) -> jaxte.FeatureStore:
            place = tmp_path / f"{name}-{rows[0]}"
            with Writer(place, model={}, data={}, layers=["body", "head"]) as writer:
                layers = {"body": own[rows], "head": own[rows, :2]}
                writer.append(layers, LABELS[rows], examples=len(rows), digest="")
                writer.finish()
            return jaxte.FeatureStore.open(place)

        return extracted

    chosen = {m: stored(POOL[m], m) for m in ("model 1", "model 13", "model 14")}
    records = [
        {"model": m, "dataset": f"set {k}", "accuracy": 0.9 if m == "model 13" else 0.1}
        for m in chosen
        for k in range(2)
    ]
    short = jaxte.shortlist(chosen, LABELS, shares=(0.5, 1.0), history=records)
    assert short.ranking.metrics == ("ridge_probe", "history")
    assert any("all layers" in note for note in short.ranking.notes)
    whole = {m: {"layers": {"body": POOL[m], "head": POOL[m][:, :2]}} for m in chosen}
    left = {m: whole[m] for m in short.ranking.models}
    ranking = jaxte.rank(left, LABELS, metrics="ridge_probe")
    for model in left:
        score = ranking.score(model, "ridge_probe")
        assert short.ranking.score(model, "ridge_probe") == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "ncti"}, "do not depend on the other models"),
        ({"metric": ["logme", "hscore"]}, "do not depend on the other models"),
        ({"confidence": 1.5}, "confidence is 1.5"),
        ({"shares": (0.1, 2.0)}, "shares are"),
        ({"shares": (0.1, 0.5)}, "shares are"),
        ({"shares": 1.0}, "shares are"),
        ({"targets": None}, "targets that all models share"),
        ({"weights": LABELS}, "takes no weights: of rank it has"),
        ({"metrics": "logme"}, "takes no metrics"),
    ],
)
def test_what_cannot_be_is_refused_before_any_model_is_asked(
    options: dict[str, Any], message: str
) -> None:
    def never(rows: np.ndarray) -> np.ndarray:
        raise AssertionError("asked")

    how = {"targets": LABELS, **options}
    with pytest.raises(InputError, match=message):
        jaxte.shortlist({"a": never, "b": never}, how.pop("targets"), **how)
    with pytest.raises(InputError, match="must be a mapping"):
        jaxte.shortlist([never], LABELS)  # type: ignore[arg-type]
    history = [{"model": "a", "dataset": "o", "accuracy": 0.5}]
    with pytest.raises(InputError, match="accuracies of two models"):
        jaxte.shortlist({"a": POOL["model 1"], "b": POOL["model 2"]}, LABELS, history=history)


def test_the_covariance_is_shrunk_as_published() -> None:
    """Row by row and pair by pair, from the formulas of the paper."""
    rows, m = 30, 4
    x = np.random.default_rng(0).normal(size=(m, rows))
    x[1] += x[0]  # one pair of all
    x = x / np.sqrt((x**2).sum(1))[:, None] * np.sqrt(rows)  # variances of 1
    s = x @ x.T / rows
    mean = np.mean([s[i, j] for i in range(m) for j in range(m) if i != j])
    pi = rho = gamma = 0.0
    for i in range(m):
        for j in range(m):
            own = np.mean((x[i] * x[j] - s[i, j]) ** 2)
            pi += own
            gamma += ((mean if i != j else 1.0) - s[i, j]) ** 2
            if i == j:
                rho += own
                continue
            first = np.mean((x[i] ** 2 - s[i, i]) * (x[i] * x[j] - s[i, j]))
            second = np.mean((x[j] ** 2 - s[j, j]) * (x[i] * x[j] - s[i, j]))
            rho += mean / 2 * (first + second)
    share = np.clip((pi - rho) / gamma / rows, 0, 1)
    assert 0.1 < share < 0.9
    expected = share * np.where(np.eye(m), 1.0, mean) + (1 - share) * s
    assert covariance_of(list(x / np.sqrt(rows))) == pytest.approx(expected)


def test_arrays_have_a_row_of_each_target() -> None:
    x, y = np.random.default_rng(0).normal(size=(1200, 4)), np.arange(1200) % 3
    models = {"a": x, "b": x + 0.5 * np.eye(4)[y], "long": np.concatenate([x, x]), "short": x[:700]}
    ranking = jaxte.shortlist(models, y, metric="logme").ranking
    assert ranking.status("long", "logme") == "it has 2400 rows, and there are 1200 targets"
    assert ranking.status("short", "logme") == "it has 700 rows, and there are 1200 targets"
    assert ranking.status("b", "logme") == "ok"


def test_what_would_judge_models_by_each_other_is_refused() -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    with pytest.raises(InputError, match="do not depend on the other models"):
        jaxte.shortlist({"a": x, "b": x}, y, metric="face", normalize="minmax")
    with pytest.raises(InputError, match="seed is -1"):
        jaxte.shortlist({"a": x, "b": x}, y, metric="logme", seed=-1)
