"""What extract() cannot use is named: the model, the batch, the row, and what to do."""

from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte.data import Dataset
from jaxte.extraction.models import Model
from jaxte.store import Writer

X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
Y = np.arange(20) % 3


def as_it_is(params: Any, x: Any) -> dict[str, Any]:
    return {"last": x}


NET = Model(name="net", apply=as_it_is, layers=("last",))


def batches(x: Any = X, y: Any = Y, size: int = 8) -> list[Any]:
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(y), size)]


def with_apply(apply: Any, **changes: Any) -> Model:
    return Model(**{"name": "net", "apply": apply, "layers": ("last",)} | changes)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize(
    ("apply", "said"),
    [
        (lambda p, x: x, "net: apply returns .*not a mapping"),
        (lambda p, x: {"other": x}, "net: apply returns no layer 'last', but other"),
        (lambda p, x: {"last": x[:, 0]}, r"net: layer last has shape \(8,\), not \[b, d\]: pool"),
        (lambda p, x: {"last": x[..., None]}, r"net: layer last has shape \(8, 6, 1\).*pool"),
        (lambda p, x: {"last": x[:3]}, "net: layer last has 3 rows for a batch of 8"),
    ],
)
def test_outputs(apply: Any, said: str, traced: bool) -> None:
    with pytest.raises(jaxte.InputError, match=said):
        jaxte.extract(with_apply(apply, traced=traced), batches())


@pytest.mark.parametrize(
    ("hole", "dtype", "said"),
    [
        (np.nan, "float32", "net: features of batch 1 contain NaN, first in row 3 of it, layer la"),
        (np.inf, "float32", "batch 1 contain infinity, first in row 3"),
        (1e6, "float16", "batch 1 contain infinity, or more than float16 holds .*bfloat16"),
    ],
)
def test_features_that_are_not_finite(hole: float, dtype: str, said: str, tmp_path: Path) -> None:
    x = X.copy()
    x[11, 2] = hole
    for out in (None, tmp_path / "s"):
        with pytest.raises(jaxte.InputError, match=said):
            jaxte.extract(NET, batches(x), dtype=dtype, out=out)


def test_logits_that_are_not_finite() -> None:
    net = with_apply(lambda p, x: {"last": x, "logits": jnp.log(x)})
    with pytest.raises(jaxte.InputError, match=r"batch 0 contain NaN.*layer logits"):
        jaxte.extract(net, batches())


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.where(np.arange(20) == 10, -1, Y), "batch 1 has label -1 in row 2: give classes fr"),
        (np.where(np.arange(20) == 10, 9, Y), "batch 1 has label 9 in row 2.*of 3"),
        (np.where(np.arange(20) == 10, np.nan, Y), "labels of batch 1 contain NaN.*row 2"),
        (np.array([f"class {y}" for y in Y]), "batch 0 has texts as labels.*as_dataset"),
        (np.zeros((20, 4, 4), int), r"batch 0 has labels of shape \[8, 4, 4\].*level='token'"),
        (np.zeros((20, 0)), r"labels of shape \[8, 0\]"),
    ],
)
def test_labels(labels: Any, said: str) -> None:
    with pytest.raises(jaxte.InputError, match=said):
        jaxte.extract(NET, batches(y=labels), num_classes=3)


def test_labels_of_two_kinds() -> None:
    mixed = [(X[:8], Y[:8]), (X[8:16], Y[8:16] * 1.0)]
    with pytest.raises(jaxte.InputError, match=r"batch 1 has labels float64.*before it had int32"):
        jaxte.extract(NET, mixed)
    ragged = [(X[:3], [[1.0, 2.0], [3.0], [4.0]])]
    with pytest.raises(jaxte.InputError, match=r"labels of batch 0.*rows have different lengths"):
        jaxte.extract(NET, ragged)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([], "there are no batches"),
        (iter([]), "there are no batches"),
        ([(X[:0], Y[:0])], "there are no batches"),
        (3, "batches is a int: give a Dataset, or an iterable"),
        ({"image": X, "label": Y}, "batches is a dict"),
        ("images/", "batches is a str"),
        ([X], "batch 0 must be .inputs, labels. or a dict of them, not ndarray"),
        ([(X, Y, Y)], "batch 0 must be .*, not 3 parts"),
        ([{"image": X}], "batch 0 has the keys image: its labels must be called 'label'"),
        ([(X[:4], Y[:5])], r"batch 0 has inputs \(4, 6\) and labels .5,."),
        ([(X[:4], 3)], r"batch 0 has inputs \(4, 6\) and labels \(\)"),
        ([((), Y)], "batch 0 has inputs nothing"),
        ([(["a", "b"], [0, 1])], "batch 0 has inputs that are not numbers: give prepare"),
        ([([X[0], X[0, :3]], [0, 1])], "batch 0 has inputs of different shapes: .*prepare"),
    ],
)
def test_batches(source: Any, said: str) -> None:
    with pytest.raises(jaxte.InputError, match=said):
        jaxte.extract(NET, source)


def test_preparing() -> None:
    def prepare(examples: Any) -> Any:
        raise ValueError("a hole in the text")

    net = with_apply(as_it_is, prepare=prepare)
    with pytest.raises(jaxte.InputError, match=r"batch 0 cannot be prepared .*a hole in the text"):
        jaxte.extract(net, batches())


def test_other_arguments(tmp_path: Path) -> None:
    with pytest.raises(jaxte.InputError, match="batch_size is 0"):
        jaxte.extract(NET, batches(), batch_size=0)
    with pytest.raises(jaxte.InputError, match="int8 cannot be stored: choose float32"):
        jaxte.extract(NET, batches(), dtype="int8", out=tmp_path / "s")
    with pytest.raises(jaxte.InputError, match="mesh is a int"):
        jaxte.extract(NET, batches(), mesh=cast(Any, 4))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(jaxte.InputError, match="not empty"):
        jaxte.extract(NET, batches(), out=tmp_path / "full")


@pytest.mark.parametrize(
    "source",
    [
        {"model": with_apply(lambda p, x: {"other": x})},
        {"batches": batches(x=X * np.nan)},
        {"batches": batches(y=Y - 1)},
        {"batches": []},
    ],
    ids=["layer", "features", "labels", "nothing"],
)
def test_what_fails_at_once_leaves_nothing_behind(source: dict[str, Any], tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"model": NET, "batches": batches()} | source
    with pytest.raises(jaxte.InputError):
        jaxte.extract(**arguments, out=tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_another_process_writes(tmp_path: Path) -> None:
    with (
        Writer(tmp_path / "s", model={}, data={}, layers=["last"]),
        pytest.raises(jaxte.InputError, match=r"something else|another process"),
    ):
        jaxte.extract(NET, batches(), out=tmp_path / "s")


def test_errors_of_the_model_itself_come_through(tmp_path: Path) -> None:
    def fails(params: Any, x: Any) -> dict[str, Any]:
        return {"last": x @ jnp.ones((5, 5))}

    with pytest.raises(TypeError, match=r"contracting|dot_general"):
        jaxte.extract(with_apply(fails), batches(), out=tmp_path / "s")

    def outside(params: Any, x: Any) -> dict[str, Any]:
        if x[0, 0] == X[16, 0]:
            raise RuntimeError("out of memory")
        return {"last": x}

    with pytest.raises(RuntimeError, match="out of memory") as raised:
        jaxte.extract(with_apply(outside, traced=False), batches(), out=tmp_path / "t")
    assert "16 examples are stored" in raised.value.__notes__[-1]


class Words(Dataset):
    name = "words"
    task = "tokens"
    ignore = -100

    def __len__(self) -> int:
        return 3

    def read(self, row: int) -> tuple[Any, Any]:
        return ["one", "two"], np.array([0, 1])


def test_a_model_of_another_level_than_the_task() -> None:
    with pytest.raises(
        jaxte.InputError, match=r"words is a tokens data set.*level='token'.*'examp"
    ):
        jaxte.extract(NET, Words())
