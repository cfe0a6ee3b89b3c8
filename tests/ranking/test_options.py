"""Options of `rank` that cannot be: one line that names the option, before any work."""

from typing import Any

import jax
import numpy as np
import pytest
from helpers import blobs

import jaxte
from jaxte import InputError, perturb
from jaxte.metrics import REGISTRY

X, Y = blobs(12, 5, classes=3)
NAN = float("nan")


class Odd:
    """Something that refuses to be a number, an array or a text of one line."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("no array")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __repr__(self) -> str:
        return "odd\n" * 100


ODD = [
    None,
    "x",
    5,
    -1,
    2.5,
    NAN,
    b"x",
    [],
    [[1], [1, 2]],
    {},
    {"a": 1},
    Odd(),
    np.ones(3),
    object(),
]
MEANT: dict[str, tuple[Any, ...]] = {
    "metrics": (),
    "options": (None, {}),
    "memory_limit": (None, 5, 2.5),
    "num_classes": (None, 5),
    "normalize": (),
    "weights": (None, 5, -1, 2.5, []),  # numbers, of which the kernels say that they do not fit
    "precision": (),
    "perturb": (None,),
    "progress": (None,),
    "mesh": (None,),
    "permutations": (5,),
    "seed": (5,),
}
CASES = [
    (name, value)
    for name, meant in MEANT.items()
    for value in [*ODD, *((np.inf, 0, True, "1e9") if name == "memory_limit" else ())]
    if not any(value is one or (type(value) is type(one) and value == one) for one in meant)
]


@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda value: str(value)[:12])
def test_wrong_options_of_rank_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError) as raised:
        jaxte.rank({"a": X}, Y, **{"metrics": "face", name: value})
    said = str(raised.value)
    assert name.removesuffix("s") in said
    assert "\n" not in said
    assert len(said) < 400


OPTIONS = [(metric.name, option) for metric in REGISTRY.values() for option in metric.parameters]


@pytest.mark.parametrize(("metric", "option"), OPTIONS)
@pytest.mark.parametrize(
    "value", ["abc", -3.0, NAN, [1.0], {}, b"x", Odd(), object()], ids=lambda v: str(v)[:6]
)
def test_wrong_options_of_metrics_are_named(metric: str, option: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{metric}.*{option}") as raised:
        jaxte.rank({"a": X}, Y, metrics=[metric], options={metric: {option: value}})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{"face": 5}, {"face": None}, {"nope": {}}, {3: {}}])
def test_options_are_mappings_of_mappings(options: Any) -> None:
    with pytest.raises(InputError, match="options"):
        jaxte.rank({"a": X}, Y, metrics="face", options=options)
    with pytest.raises(InputError, match="face has no option 'nope': it has temperature"):
        jaxte.rank({"a": X}, Y, metrics="face", options={"face": {"nope": 1}})


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1},
        {"temperature": np.float32(0.5)},
        {"temperature": np.array(0.5), "covariance": "diagonal"},
    ],
)
def test_right_options_pass(options: dict[str, Any]) -> None:
    result = jaxte.rank({"a": X}, Y, metrics=["face", "face"], options={"face": options})
    assert result.metrics == ("face",)
    assert result.status("a", "face") == "ok"
    limited = jaxte.rank({"a": X}, Y, metrics={"face"}, memory_limit=1e9)  # type: ignore[arg-type]
    assert limited.status("a", "face") == "ok"


@pytest.mark.parametrize("names", [(1, "1"), (None, "None"), (2.0, "2.0")])
def test_two_names_that_are_one_text_are_refused(names: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match=f"two models are called {names[0]}: .*'{names[1]}'"):
        jaxte.rank(dict.fromkeys(names, X), Y)


KERNELS = {**{name: m.function for name, m in REGISTRY.items()}, "spread": perturb.spread}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize("name", ["num_classes", "num_features"])
@pytest.mark.parametrize("value", ["3", NAN, 2.5, -1, [3], Odd()], ids=lambda v: str(v)[:6])
def test_counts_are_whole_numbers_everywhere(kernel: Any, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        kernel(X, Y, **{name: value})


def test_names_of_metrics_in_any_case() -> None:
    options = {"HScore": {"folds": 2}}
    ranking = jaxte.rank({"m": X}, Y, metrics=["LogME", "hscore", "logme"], options=options)
    assert ranking.metrics == ("logme", "hscore")
    assert ranking.score("m", "LOGME") == ranking.score("m", "logme")
    assert ranking.meta["options"] == {"hscore": {"folds": 2}}
    with pytest.raises(InputError, match="given for 'hScore', but they are given twice"):
        jaxte.rank({"m": X}, Y, metrics="hscore", options={"hscore": {}, "hScore": {}})
    with pytest.raises(InputError, match="given for 'sfda', but there are logme"):
        jaxte.rank({"m": X}, Y, metrics="logme", options={"sfda": {}})


def test_a_key_of_any_form() -> None:
    """Seeds, keys of numbers and typed keys draw the same folds."""
    x, y = blobs(40, 5, classes=3)
    keys = (3, jax.random.PRNGKey(3), jax.random.key(3))
    scores = {
        jaxte.rank({"m": x}, y, metrics="nleep", options={"nleep": {"key": key}}).score(
            "m", "nleep"
        )
        for key in keys
    }
    assert len(scores) == 1
    assert np.isfinite(scores.pop())


def test_one_threshold_of_atc_is_a_note() -> None:
    models = {
        name: {"features": X, "logits": 3 * X * scale} for name, scale in (("a", 1), ("b", 2))
    }
    options = {"atc": {"source_logits": 3 * X, "source_accuracy": 0.75}}
    (note,) = jaxte.rank(models, metrics="atc", options=options).notes
    assert note.startswith("atc: one threshold, -")
    assert "another head needs its own" in note
    assert "no threshold" in " ".join(jaxte.rank(models, metrics="atc").notes)
