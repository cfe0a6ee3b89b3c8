"""Features and labels of every kind through every door: the same score, or the same refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from helpers import blobs

import jaxte
from jaxte import InputError
from jaxte.metrics import logme

N = 96
X, Y = blobs(N, 5, classes=4)
X = X.astype(np.float32).astype(np.float64)  # so that no precision loses anything
PLAIN = jaxte.rank({"m": X}, Y, metrics="logme").score("m", "logme")
NAMES = np.array(["ant", "bee", "cat", "dog"])


def kernel(x: Any, y: Any, tmp_path: Path) -> float:
    with jax.enable_x64(True):
        return float(logme(x, y))


def shared(x: Any, y: Any, tmp_path: Path) -> float:
    return jaxte.rank({"m": x}, y, metrics="logme").score("m", "logme")


def by_model(x: Any, y: Any, tmp_path: Path) -> float:
    return jaxte.rank({"m": x}, {"m": y}, metrics="logme").score("m", "logme")


def streamed(x: Any, y: Any, tmp_path: Path) -> float:
    return jaxte.rank({"m": x}, y, metrics="logme", memory_limit=1000).score("m", "logme")


def halves(x: Any, y: Any) -> list[tuple[Any, Any]]:
    return [(x[: N // 2], y[: N // 2]), (x[N // 2 :], y[N // 2 :])]


def batches(x: Any, y: Any, tmp_path: Path) -> float:
    return jaxte.rank({"m": halves(x, y)}, metrics="logme").score("m", "logme")


def store(x: Any, y: Any, tmp_path: Path) -> float:
    stored = jaxte.extract(lambda inputs: inputs, halves(x, y), dtype="float64")
    return jaxte.rank({"m": stored}, metrics="logme").score("m", "logme")


def dataset(x: Any, y: Any, tmp_path: Path) -> float:
    stored = jaxte.extract(lambda inputs: inputs, jaxte.data.as_dataset(x, y), dtype="float64")
    return jaxte.rank({"m": stored}, metrics="logme").score("m", "logme")


def perturbed(x: Any, y: Any, tmp_path: Path) -> float:
    """By nothing, since alpha is 0; the labels go through the perturbation first."""
    moved = jaxte.perturb.attract(x, y, alpha=0.0)
    return shared(np.asarray(moved, np.float64), y, tmp_path)


Door = Callable[[Any, Any, Path], float]
RANKED: list[Door] = [kernel, shared, by_model, streamed, batches]
each_door = pytest.mark.parametrize("door", [*RANKED, dataset], ids=lambda door: door.__name__)

LABELS: dict[str, Any] = {
    "uint8": Y.astype(np.uint8),
    "one column": Y[:, None].astype(np.uint8),
    "big-endian": Y.astype(">i8"),
    "JAX": jnp.asarray(Y),
    "list": Y.tolist(),
    "far apart": Y.astype(np.int64) * 10**10 + 7,
    "unsigned and wide": Y.astype(np.uint64) + np.uint64(2**63),
    "wider than 64 bits": np.array([int(y) << 70 for y in Y], object),
    "negative": Y.astype(np.int64) * 5 - 9,
    "texts": NAMES[Y],
    "column of texts": NAMES[Y][:, None],
    "list of texts": NAMES[Y].tolist(),
    "bytes": NAMES[Y].astype("S3"),
    "objects": NAMES[Y].astype(object),
    "series": pd.Series(NAMES[Y]),
    "categories": pd.Categorical(NAMES[Y], categories=[*NAMES, "eel"]),
    "nullable": pd.array(Y.astype(int), dtype="Int64"),
}
# what as_dataset cannot slice or index by row needs no test there
IN_TWO_CLASSES: dict[str, Any] = {"bool": Y > 1, "column of bool": (Y > 1)[:, None]}


@each_door
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_labels_of_every_kind(door: Door, labels: Any, tmp_path: Path) -> None:
    assert door(X, labels, tmp_path) == pytest.approx(PLAIN, rel=1e-9)


@each_door
@pytest.mark.parametrize("labels", IN_TWO_CLASSES.values(), ids=IN_TWO_CLASSES.keys())
def test_two_classes(door: Door, labels: Any, tmp_path: Path) -> None:
    two = shared(X, (Y > 1).astype(int), tmp_path)
    assert door(X, labels, tmp_path) == pytest.approx(two, rel=1e-9)


@pytest.mark.parametrize("labels", ["uint8", "one column", "big-endian", "JAX", "far apart"])
@pytest.mark.parametrize("door", [store, perturbed], ids=lambda door: door.__name__)
def test_labels_of_other_doors(door: Door, labels: str, tmp_path: Path) -> None:
    tolerance = 1e-9 if door is store else 1e-5  # perturbations of JAX's default precision
    assert door(X, LABELS[labels], tmp_path) == pytest.approx(PLAIN, rel=tolerance)


@pytest.mark.parametrize("labels", ["texts", "categories", "bytes"])
def test_names_are_kept(labels: str) -> None:
    ranking = jaxte.rank({"m": X}, LABELS[labels], metrics="logme")
    assert ranking.meta["class_names"] == tuple(NAMES)
    assert "ant, bee, cat, dog" in str(ranking)


def test_names_of_batches_are_kept() -> None:
    ranking = jaxte.rank({"m": halves(X, NAMES[Y])}, metrics="logme")
    assert ranking.meta["class_names"] == tuple(NAMES)


def torch_tensors() -> dict[str, Any]:
    torch = pytest.importorskip("torch")
    return {
        "gradient": torch.tensor(X, requires_grad=True),
        "bfloat16": torch.tensor(np.round(X * 4) / 4).to(torch.bfloat16).requires_grad_(),
        "transposed": torch.tensor(np.asfortranarray(X)).T.contiguous().T,
        "rows": [torch.tensor(row, requires_grad=True) for row in X],
    }


def strange(kind: str) -> Any:
    if kind in ("gradient", "bfloat16", "transposed", "rows"):
        return torch_tensors()[kind]
    frozen = X.copy()
    frozen.setflags(write=False)
    return {
        "big-endian": X.astype(">f8"),
        "big-endian, short": X.astype(">f4"),
        "Fortran": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
        "backwards": X[::-1][::-1],
        "read-only": frozen,
        "no mask": np.ma.MaskedArray(X),
        "JAX": jnp.asarray(X, jnp.float32),
        "list": X.tolist(),
        "data frame": pd.DataFrame(X),
        "nullable": pd.DataFrame(X).astype("Float64"),
        "extended": X.astype(np.longdouble),
    }[kind]


FEATURES = [
    *["big-endian", "big-endian, short", "Fortran", "strided", "backwards", "read-only"],
    *["no mask", "JAX", "list", "data frame", "nullable", "extended"],
    *["gradient", "bfloat16", "transposed", "rows"],
]


@pytest.mark.parametrize("door", [kernel, shared, by_model, streamed], ids=lambda d: d.__name__)
@pytest.mark.parametrize("kind", FEATURES)
def test_features_of_every_kind(door: Door, kind: str, tmp_path: Path) -> None:
    features = strange(kind)
    expected = PLAIN
    if kind == "bfloat16":
        expected = shared(np.round(X * 4) / 4, Y, tmp_path)
    short = door is kernel and kind in ("big-endian, short", "JAX", "bfloat16")  # as they are
    assert door(features, Y, tmp_path) == pytest.approx(expected, rel=2e-5 if short else 1e-9)


@pytest.mark.parametrize("kind", [k for k in FEATURES if k not in ("list", "rows", "data frame")])
def test_features_in_batches(kind: str, tmp_path: Path) -> None:
    expected = shared(np.round(X * 4) / 4, Y, tmp_path) if kind == "bfloat16" else PLAIN
    assert batches(strange(kind), Y, tmp_path) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [">f8", ">i8", "i8", "u1", "f2"])
def test_files_of_every_type(dtype: str, tmp_path: Path) -> None:
    whole = np.round(X * 20 + 100)
    np.save(tmp_path / "x.npy", whole.astype(dtype))
    expected = shared(whole, Y, tmp_path)
    for limit in (1000, 1 << 30):
        for value in (tmp_path / "x.npy", np.load(tmp_path / "x.npy", mmap_mode="r")):
            ranking = jaxte.rank({"m": value}, Y, metrics="logme", memory_limit=limit)
            assert ranking.score("m", "logme") == pytest.approx(expected, rel=1e-9)


def masked() -> Any:
    mask = np.zeros(X.shape, bool)
    mask[7] = True
    return np.ma.MaskedArray(X, mask)


class Broken:
    """An array that cannot be had."""

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise RuntimeError("the device is lost")


def refused() -> dict[str, tuple[Any, str]]:
    from scipy import sparse

    cells = X.astype(object)
    cells[3, 1] = "none"
    return {
        "complex": (X + 0j, "complex128.*real"),
        "masked": (masked(), "masked array.*row 7"),
        "sparse": (sparse.csr_matrix(X), r"sparse.*\.toarray\(\)"),
        "sparse array": (sparse.coo_array(X), r"sparse.*\.toarray\(\)"),
        "objects": (cells, "dtype object.*row 3 column 1 holds 'none'"),
        "texts": (X.astype(str), "dtype <U.*give numbers"),
        "dates": (X.astype("M8[s]"), "datetime64.*give numbers"),
        "integers beyond float range": ((X * 2**60).astype(np.int64), "beyond float range"),
        "structured": (np.zeros(N, [("a", "f4"), ("b", "f4")]), "one matrix"),
        "bytes of bfloat16": (X.astype(jnp.bfloat16).view("V2"), "bfloat16.*view"),
        "broken": (Broken(), "RuntimeError: the device is lost"),
        "beyond float64": (X.astype(np.longdouble) * np.longdouble("1e4000"), "beyond float64"),
    }


@pytest.mark.parametrize("door", [kernel, shared, by_model], ids=lambda door: door.__name__)
@pytest.mark.parametrize("kind", refused().keys())
def test_what_would_lose_something_is_refused(door: Door, kind: str, tmp_path: Path) -> None:
    features, message = refused()[kind]
    with pytest.raises(InputError, match=message):
        door(features, Y, tmp_path)


@pytest.mark.parametrize("kind", refused().keys())
def test_a_bad_model_stops_no_other(kind: str) -> None:
    features, _ = refused()[kind]
    ranking = jaxte.rank({"bad": features, "good": X, "none": None}, Y, metrics="logme")
    assert ranking.order("logme") == ["good"]
    assert ranking.score("good", "logme") == pytest.approx(PLAIN, rel=1e-12)


def test_a_sparse_tensor_of_torch_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"sparse.*\.to_dense\(\)"):
        shared(torch.tensor(X).to_sparse(), Y, tmp_path)


def without_row_9(kind: str) -> Any:
    texts = NAMES[Y].astype(object)
    if kind == "minus one":
        return np.where(np.arange(N) == 9, -1, Y)
    if kind == "ignored":
        return np.where(np.arange(N) == 9, -100, Y)
    if kind == "masked":
        return np.ma.MaskedArray(Y, np.arange(N) == 9)
    if kind == "nullable":
        return pd.array([None if row == 9 else int(y) for row, y in enumerate(Y)], dtype="Int64")
    if kind == "categories":
        texts[9] = None
        return pd.Categorical(texts)
    gaps = {"none": None, "nan": np.nan, "blank": "", "spaces": "  ", "NA": pd.NA}
    texts[9] = "nan" if kind == "text nan" else gaps[kind]
    if kind in ("blank", "spaces", "text nan"):
        return texts.astype(str)
    return texts.tolist() if kind == "nan" else texts


MISSING = [
    *["minus one", "ignored", "masked", "nullable", "categories", "none", "nan", "blank"],
    *["spaces", "NA", "text nan"],
]


@each_door
@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_label_is_no_class(door: Door, kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 9"):
        door(X, without_row_9(kind), tmp_path)


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_label_of_weight_0(kind: str) -> None:
    weights = (np.arange(N) != 9).astype(float)
    options: dict[str, Any] = {"metrics": "logme", "weights": weights}
    expected = jaxte.rank({"m": X}, Y, **options).score("m", "logme")
    result = jaxte.rank({"m": X}, without_row_9(kind), **options).score("m", "logme")
    assert result == pytest.approx(expected, rel=1e-12)


@each_door
def test_minus_one_and_one_are_classes(door: Door, tmp_path: Path) -> None:
    two = shared(X, (Y > 1).astype(int), tmp_path)
    assert door(X, np.where(Y > 1, 1, -1), tmp_path) == pytest.approx(two, rel=1e-9)


@pytest.mark.parametrize("door", RANKED, ids=lambda door: door.__name__)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_several_labels_at_once(door: Door, dtype: Any, tmp_path: Path) -> None:
    hot = X[:, :3] > 0
    expected = shared(X, hot.astype(float), tmp_path)
    assert door(X, hot.astype(dtype), tmp_path) == pytest.approx(expected, rel=1e-9)


def test_several_labels_at_once_need_a_metric_that_can() -> None:
    with pytest.raises(InputError, match=r"several labels at once.*sfda, face.*argmax"):
        jaxte.rank({"m": X}, (X[:, :3] > 0).astype(int), metrics=["logme", "sfda", "face"])
    with pytest.raises(InputError, match=r"several labels at once.*logme"):
        jaxte.metrics.sfda(X, (X[:, :3] > 0).astype(int))


@each_door
def test_integers_of_several_columns_are_refused(door: Door, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="integers of shape"):
        door(X, np.stack([Y, Y], axis=1), tmp_path)


@each_door
@pytest.mark.parametrize("kind", ["prices", "texts"])
def test_more_classes_than_rows_can_carry(door: Door, kind: str, tmp_path: Path) -> None:
    prices = np.random.default_rng(0).permutation(N) * 1000 + 250_000
    labels = prices if kind == "prices" else np.array([f"note {price}" for price in prices])
    with pytest.raises(
        InputError, match=f"96 different .*{'give floats' if kind == 'prices' else 'column'}"
    ):
        door(X, labels, tmp_path)


def test_many_classes_that_are_said_to_be_classes() -> None:
    pairs = np.arange(N) % 60 * 1000
    number = jaxte.rank({"m": X}, pairs // 1000, metrics="logme").score("m", "logme")
    assert np.isfinite(number)
    with pytest.raises(InputError, match="too many for classes"):
        jaxte.rank({"m": X}, pairs, metrics="logme")
    texts = np.array([f"t{pair:06d}" for pair in pairs])
    ranking = jaxte.rank({"m": X}, texts, metrics="logme", num_classes=60)
    assert ranking.score("m", "logme") == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("number", [10**4, 2**32, 10**9])
def test_cost_goes_with_the_classes_that_occur(number: int) -> None:
    """A class number, or number of classes, that an array of that size would not survive."""
    labels = np.where(Y == 3, number, Y.astype(np.int64))
    expected, numbered, known = (
        jaxte.rank({"m": X}, y, metrics=["logme", "sfda", "face"], num_classes=most)
        for y, most in ((Y, None), (labels, None), (Y, min(number, 2**31 - 1)))
    )
    for metric in expected.metrics:
        assert numbered.score("m", metric) == expected.score("m", metric)
        assert known.score("m", metric) == expected.score("m", metric)


def test_moments_know_classes_by_number() -> None:
    state = jaxte.moments.init(5, num_classes=4)
    for labels in (Y[:, None].astype(np.uint8), Y.astype(">i4"), Y.astype(object)):
        np.testing.assert_array_equal(jaxte.moments.update(state, X, labels).counts, np.bincount(Y))
    with pytest.raises(InputError, match=r"np\.unique"):
        jaxte.moments.update(state, X, NAMES[Y])
    with pytest.raises(InputError, match="dtype complex"):
        jaxte.moments.update(state, X + 0j, Y)


def test_arrays_on_a_device_are_not_copied_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what goes with the rows comes to the host."""
    features, copied = jnp.asarray(X, jnp.float32), []
    plain = np.asarray

    def counted(array: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(array, jax.Array):
            copied.append(array.size)
        return plain(array, *arguments, **options)

    monkeypatch.setattr(np, "asarray", counted)
    assert jaxte.intake.checks.check_features(features, None, 5)[0] is features
    assert copied
    assert max(copied) <= N
