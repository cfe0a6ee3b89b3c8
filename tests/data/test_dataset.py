"""Batches, restarts and subsets: the same for every source of data."""

import collections
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxte import InputError, data
from jaxte.data._draws import keys, quotas, rank_within
from jaxte.data._threads import in_order


def numbers(n: int = 23, classes: int = 3) -> data.Dataset:
    inputs = np.arange(n * 4, dtype=np.float32).reshape(n, 4)
    return data.as_dataset(inputs, np.arange(n) % classes)


def joined(batches: Iterator[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    inputs, labels = zip(*batches, strict=True)
    return np.concatenate(inputs), np.concatenate(labels), [len(part) for part in labels]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 4, 23, 100])
def test_restarted_anywhere_the_rest_is_the_same(workers: int, size: int) -> None:
    whole = numbers()
    inputs, labels, lengths = joined(whole.batches(size, workers=workers))
    np.testing.assert_array_equal(inputs[:, 0], np.arange(23) * 4)
    assert lengths == [size] * (23 // size) + ([23 % size] if 23 % size else [])
    for start in range(23):
        rest = joined(whole.batches(size, start=start, workers=workers))
        np.testing.assert_array_equal(rest[0], inputs[start:])
        np.testing.assert_array_equal(rest[1], labels[start:])
    assert list(whole.batches(size, start=23, workers=workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_restarted_data_of_tensorflow_datasets(prepared: Path, workers: int) -> None:
    whole = data.load("tfds:scanned_digits/train[300:370]", data_dir=str(prepared))
    inputs, labels, _ = joined(whole.batches(16))
    for start in range(0, 70, 7):
        rest = joined(whole.batches(16, start=start, workers=workers))
        np.testing.assert_array_equal(rest[0], inputs[start:])
        np.testing.assert_array_equal(rest[1], labels[start:])


def test_prepare_gets_lists_and_gives_inputs() -> None:
    mail = data.as_dataset(["a", "bb", "ccc"], ["x", "y", "x"])

    def prepare(texts: list[str]) -> dict[str, np.ndarray]:
        assert isinstance(texts, list)
        return {"length": np.asarray([len(text) for text in texts])}

    actual = [inputs["length"].tolist() for inputs, _ in mail.batches(2, prepare=prepare)]
    assert actual == [[1, 2], [3]]
    assert [inputs for inputs, _ in mail.batches(2)] == [["a", "bb"], ["ccc"]]


def test_an_error_names_the_rows_and_comes_in_its_turn() -> None:
    whole = numbers()

    def prepare(rows: list[np.ndarray]) -> np.ndarray:
        if any(row[0] == 13 * 4 for row in rows):
            raise ZeroDivisionError
        return np.stack(rows)

    for workers in (0, 3):
        batches = whole.batches(5, prepare=prepare, workers=workers)
        next(batches), next(batches)
        with pytest.raises(ZeroDivisionError) as caught:
            next(batches)
        # nor that it could be skipped: the rows can be read
        assert caught.value.__notes__ == ["while preparing rows 10 to 14 of arrays"]


def test_images_of_different_sizes_ask_for_prepare() -> None:
    images = [np.zeros((2, 3, 3), np.uint8), np.zeros((4, 3, 3), np.uint8)]
    with pytest.raises(InputError, match=r"different shapes, as \(2, 3, 3\) and \(4, 3, 3\)"):
        next(data.as_dataset(images, [0, 1]).batches(2))


@pytest.mark.parametrize("options", [{"start": 24}, {"start": -1}, {"workers": -1}])
def test_batches_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        numbers().batches(4, **options)
    with pytest.raises(InputError):
        numbers().batches(0)


def test_rows_are_numbered_as_in_python() -> None:
    whole = numbers()
    assert whole[-1][1] == whole[22][1] == whole[np.int64(22)][1] == 1
    assert len(list(whole)) == 23
    for wrong in (23, -24):
        with pytest.raises(IndexError, match="arrays has 23 rows"):
            whole[wrong]


# --- threads -------------------------------------------------------------------------------------


def test_threads_work_ahead_but_not_far() -> None:
    """Never more than workers + 1 results wait for the caller."""
    begun: list[int] = []

    def make(item: int) -> int:
        begun.append(item)
        return item

    results = in_order(make, range(50), 3)
    for number, actual in enumerate(results):
        assert actual == number
        time.sleep(0.002)
        assert max(begun) <= number + 4
    assert sorted(begun) == list(range(50))


def test_the_first_is_made_alone_and_the_rest_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=20)
    alone = threading.Event()

    def make(item: int) -> int:
        if item == 0:
            time.sleep(0.02)
            alone.set()
        else:
            assert alone.is_set()
            meeting.wait()  # breaks unless three threads come
        return item

    assert list(in_order(make, range(7), 3)) == list(range(7))


def test_a_caller_who_leaves_stops_the_threads() -> None:
    begun: collections.Counter[int] = collections.Counter()
    results = in_order(lambda item: begun.update([item]), range(1000), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("jaxte-data")]


def test_nothing_to_do() -> None:
    assert list(in_order(str, [], 2)) == []


# --- subsets -------------------------------------------------------------------------------------


def test_subset_keeps_proportions_and_every_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [600, 300, 97, 3])
    whole = data.as_dataset(
        np.arange(1000.0)[:, None], np.random.default_rng(0).permutation(labels)
    )
    part = whole.subset(100, seed=5)
    actual = part.labels()
    assert actual is not None
    assert np.bincount(actual).tolist() == [59, 30, 10, 1]
    rows = np.asarray([example[0] for example, _ in part])
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(labels_at(whole, rows), actual)


def labels_at(whole: data.Dataset, rows: np.ndarray) -> np.ndarray:
    labels = whole.labels()
    assert labels is not None
    return labels[rows.astype(int)]


def test_subset_depends_on_the_seed_alone() -> None:
    """The rows were written down once: another NumPy or machine must draw them, too."""
    whole = numbers(60)
    drawn = [[int(x[0]) // 4 for x, _ in whole.subset(6, seed=seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == [3, 11, 13, 20, 48, 55]
    assert drawn[2] != drawn[0]


def test_subset_has_a_name_and_a_card() -> None:
    whole = data.load("zoo:digits/train")
    part = whole.subset(50, seed=3)
    assert part.name == "zoo:digits/train?subset=50&seed=3"
    assert part.card == {**whole.card, "rows": 50, "subset": {"n": 50, "seed": 3, "of": 500}}
    again = data.load(part.name)
    assert (again.name, again.card) == (part.name, part.card)
    np.testing.assert_array_equal(again.labels(), part.labels())
    within = part.subset(10).card["subset"]
    assert within == {"n": 10, "seed": 0, "of": 50, "within": {"n": 50, "seed": 3, "of": 500}}


def test_subset_of_a_regression_is_drawn_from_all_rows() -> None:
    whole = data.as_dataset(np.zeros((50, 1)), np.arange(50) / 7)
    drawn = [float(label) for seed in range(40) for _, label in whole.subset(10, seed=seed)]
    assert len(set(drawn)) > 45


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (24, 0), (5, -1)])
def test_subset_out_of_range(n: int, seed: int) -> None:
    with pytest.raises(InputError):
        numbers().subset(n, seed=seed)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.data())
def test_quotas(counts: list[int], draw: st.DataObject) -> None:
    """They sum to n, leave nobody out who need not be, and stay within one of the proportion."""
    n = draw.draw(st.integers(1, sum(counts)))
    share = quotas(np.asarray(counts), n)
    assert share.sum() == n
    assert (share <= counts).all()
    if n < len(counts):
        assert share.max() == 1
        return
    assert share.min() >= 1
    exact = np.asarray(counts) * n / sum(counts)
    if (exact >= 1).all():
        assert (np.abs(share - exact) < 1).all()


def test_ranks_within_groups() -> None:
    groups, order_by = np.asarray([1, 0, 1, 1, 0]), np.asarray([3, 5, 1, 2, 4])
    assert rank_within(groups, order_by).tolist() == [2, 1, 0, 1, 0]


def test_draws_are_the_same_for_ever() -> None:
    assert keys(2, 7).tolist() == [11530976094092348043, 16550673365885938325]
    assert keys(2, 7, 1).tolist() != keys(2, 7, 2).tolist()


def test_tensors_of_torch_are_read_in_any_state() -> None:
    torch = pytest.importorskip("torch")
    images, labels = torch.ones((4, 2, 3)), torch.tensor([0, 1, 0, 1])
    for inputs in (images.bfloat16(), images.requires_grad_(), list(images.requires_grad_())):
        example, label = data.as_dataset(inputs, labels)[1]
        assert isinstance(example, np.ndarray)
        assert (example.shape, float(example.sum()), label) == ((2, 3), 6.0, 1)


def test_an_error_names_the_labels_once() -> None:
    with pytest.raises(InputError, match=r"^the labels of mine contain -1"):
        data.as_dataset(np.ones((3, 2)), [0, -1, 1], name="mine")
