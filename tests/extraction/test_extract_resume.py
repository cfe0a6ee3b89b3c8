"""extract() into a directory, interrupted and called again, with the same or something else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte.data import Dataset
from jaxte.extraction.loop import Extraction, extraction
from jaxte.extraction.models import Model
from jaxte.store import FeatureStore

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 3
W = RANDOM.normal(size=(6, 4)).astype(np.float32)


def project(params: Any, x: Any) -> dict[str, Any]:
    return {"last": jnp.tanh(x @ params)}


NET = Model(name="net", apply=project, layers=("last",), params=W)


def batches(x: Any = X, y: Any = Y, size: int = 8) -> list[Any]:
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(y), size)]


class Table(Dataset):
    """Rows of arrays, which remembers what was read and fails at a row."""

    name = "table"
    num_classes = 3

    def __init__(self, x: Any = X, y: Any = Y, fails: int = 1 << 20) -> None:
        self.x, self.y, self.fails = x, y, fails
        self.card = {"rows": len(x)}
        self.seen: list[int] = []

    def __len__(self) -> int:
        return len(self.x)

    def read(self, row: int) -> tuple[Any, Any]:
        self.seen.append(row)
        if row == self.fails:
            raise OSError(f"row {row} is lost")
        return self.x[row], int(self.y[row])


def broken(after: int, x: Any = X, y: Any = Y) -> Iterator[Any]:
    yield from batches(x, y)[:after]
    raise OSError("the disk is gone")


def run(data: Any, out: Path, net: Model = NET, **options: Any) -> Extraction:
    return extraction(net, data, out=out, **{"batch_size": 8} | options)


def whole() -> np.ndarray:
    return np.asarray(extraction(NET, batches()).store)


def test_a_failing_iterator_leaves_what_was_stored_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk is gone") as raised:
        run(broken(3), tmp_path / "s")
    assert raised.value.__notes__ == [
        "while reading the batch after batch 2",
        "24 examples are stored: extract again to go on after them",
    ]
    assert FeatureStore.open(tmp_path / "s", partial=True).rows == 24
    result = run(batches(), tmp_path / "s")
    assert (result.status, result.examples) == ("resumed", 26)
    np.testing.assert_array_equal(np.asarray(result.store), whole())
    np.testing.assert_array_equal(result.store.labels, Y)


def test_a_data_set_is_read_from_where_the_store_ends(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="row 30 is lost"):
        run(Table(fails=30), tmp_path / "s")
    table = Table()
    result = run(table, tmp_path / "s")
    # the first and the last batch once more, and then the rest
    assert table.seen == [*range(8), *range(16, 24), *range(24, 50)]
    assert result.status == "resumed"
    np.testing.assert_array_equal(np.asarray(result.store), whole())
    complete = Table()
    assert run(complete, tmp_path / "s").status == "cached"
    assert complete.seen == list(range(8))


def test_a_data_set_may_go_on_in_other_batches(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="lost"):
        run(Table(fails=30), tmp_path / "s")
    result = run(Table(), tmp_path / "s", batch_size=5)
    assert result.store.manifest["batches"] == 3 + 6
    np.testing.assert_allclose(np.asarray(result.store), whole(), 1e-6, 1e-6)


def test_workers_change_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="lost"):
        run(Table(fails=30), tmp_path / "s", workers=2)
    result = run(Table(), tmp_path / "s", workers=3)
    assert result.status == "resumed"
    np.testing.assert_array_equal(np.asarray(result.store), whole())


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x + (np.arange(50) == 2)[:, None], y), "the inputs of batch 0 are not"),
        (lambda x, y: (x, np.where(np.arange(50) == 2, 0, y)), "the labels of batch 0 are not"),
        (lambda x, y: (x + 1, 2 - y), "the inputs and labels of batch 0 are not"),
    ],
)
@pytest.mark.parametrize("kind", [batches, Table])
def test_other_data_is_refused(
    kind: Any, change: Callable[..., Any], said: str, complete: bool, tmp_path: Path
) -> None:
    first = broken(3) if kind is batches else Table(fails=30)
    if complete:
        run(kind(), tmp_path / "s")
    else:
        with pytest.raises(OSError, match=r"lost|gone"):
            run(first, tmp_path / "s")
    with pytest.raises(jaxte.InputError, match=said):
        run(kind(*change(X, Y)), tmp_path / "s")


def test_every_batch_that_an_iterable_gives_again_is_compared(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        run(broken(4), tmp_path / "s")
    with pytest.raises(jaxte.InputError, match="the inputs of batch 2 are not"):
        run(batches(X + (np.arange(50) == 17)[:, None]), tmp_path / "s")
    with pytest.raises(jaxte.InputError, match="end before batch 2"):
        run(batches()[:2], tmp_path / "s")
    with pytest.raises(jaxte.InputError, match="batch 0 has 5 examples, but 8 were stored"):
        run(batches(size=5), tmp_path / "s")
    assert FeatureStore.open(tmp_path / "s", partial=True).rows == 32


def test_the_last_batch_of_a_data_set_is_compared(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="lost"):
        run(Table(fails=30), tmp_path / "s")
    with pytest.raises(jaxte.InputError, match="the inputs of batch 2 are not"):
        run(Table(X + (np.arange(50) == 17)[:, None]), tmp_path / "s")


@pytest.mark.parametrize("complete", [False, True])
def test_another_model_is_refused(complete: bool, tmp_path: Path) -> None:
    if complete:
        run(Table(), tmp_path / "s")
    else:
        with pytest.raises(OSError, match="lost"):
            run(Table(fails=30), tmp_path / "s")
    other = Model(name="net", apply=project, layers=("last",), params=W + np.float32(1e-6))
    with pytest.raises(jaxte.InputError, match=r"fingerprint was .* now it is"):
        run(Table(), tmp_path / "s", other)
    with pytest.raises(jaxte.InputError, match="dtype was"):
        run(Table(), tmp_path / "s", dtype="float16")
    with pytest.raises(jaxte.InputError, match=r"settings\.logits was true, now it is false"):
        run(Table(), tmp_path / "s", logits=False)


@pytest.mark.parametrize("complete", [False, True])
def test_a_model_without_parameters_is_known_by_its_features(
    complete: bool, tmp_path: Path
) -> None:
    def closed(w: Any) -> Model:
        return Model(name="net", apply=lambda _, x: project(w, x), layers=("last",))

    if complete:
        run(Table(), tmp_path / "s", closed(W))
    else:
        with pytest.raises(OSError, match="lost"):
            run(Table(fails=30), tmp_path / "s", closed(W))
    said = "features of another model: layer last of net differs on the first batch"
    with pytest.raises(jaxte.InputError, match=said):
        run(Table(), tmp_path / "s", closed(W[::-1]))
    with pytest.raises(jaxte.InputError, match=said):
        run(Table(), tmp_path / "s", closed(W[:, :3]))
    result = run(Table(), tmp_path / "s", closed(W * np.float32(1 + 1e-6)))  # another device
    assert result.status == ("cached" if complete else "resumed")
    np.testing.assert_allclose(np.asarray(result.store), whole(), 1e-5)


def test_a_failure_while_storing_ends_the_run_and_keeps_the_order(tmp_path: Path) -> None:
    """Batches behind the one that could not be stored are not stored, either."""
    hole = X.copy()
    hole[18] = np.nan
    with pytest.raises(jaxte.InputError, match="batch 2 contain NaN, first in row 2") as raised:
        run(batches(hole), tmp_path / "s")
    assert "16 examples are stored" in raised.value.__notes__[-1]
    assert FeatureStore.open(tmp_path / "s", partial=True).rows == 16
    result = run(batches(), tmp_path / "s")
    np.testing.assert_array_equal(np.asarray(result.store), whole())


def test_an_interrupt_keeps_what_was_stored(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Any]:
        yield from batches()[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted(), tmp_path / "s")
    assert run(batches(), tmp_path / "s").examples == 18
