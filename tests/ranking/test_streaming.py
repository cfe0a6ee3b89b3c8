"""rank() of features that are never in memory at once: the scores of those that are."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import Array, blobs, problem_of, regression

import jaxte
from jaxte import moments

METRICS = ("logme", "sfda", "face")
X, Y = blobs(90, 7, separation=1.0)
LITTLE = 1000  # bytes: more than any of these features take
rank = functools.partial(jaxte.rank, precision="float64", metrics=METRICS)


def cut(array: Array, sizes: tuple[int, ...] = (1, 17, 3, 30)) -> list[Array]:
    """Batches of all sorts of sizes."""
    ends = np.cumsum(np.resize(sizes, len(array)))
    return [part for part in np.split(array, ends) if len(part)]


class Loader:
    """Like a data loader: every iteration starts anew, and not all of it is a list."""

    def __init__(self, *arrays: Array) -> None:
        batches = [cut(array) for array in arrays]
        self.batches = batches[0] if len(arrays) == 1 else list(zip(*batches, strict=True))
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        self.taken += 1
        return iter(self.batches)


def agree(streamed: jaxte.Ranking, whole: jaxte.Ranking, rel: float = 1e-9) -> None:
    for model in streamed.models:
        for metric in whole.metrics:
            assert streamed.status(model, metric) == "ok"
            expected = whole.score(whole.models[0], metric)
            assert streamed.score(model, metric) == pytest.approx(expected, rel=rel)


@pytest.fixture(scope="module")
def whole() -> jaxte.Ranking:
    return rank({"m": X}, Y)


# --- the same scores ------------------------------------------------------------------------------


def test_more_columns_than_rows() -> None:
    x, y = problem_of("wide")
    for options in ({}, {"logme": {"variant": "released"}, "sfda": {"variant": "paper"}}):
        agree(rank({"m": cut(x)}, y, options=options), rank({"m": x}, y, options=options))


def test_every_form_of_features(whole: jaxte.Ranking, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(X))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    np.save(tmp_path / "longer.npy", np.concatenate([X, X]))
    forms: dict[str, Any] = {
        "list": cut(X),
        "tuple": tuple(cut(X)),
        "loader": Loader(X),
        "function": lambda: cut(X),
        "generator function": lambda: (part for part in cut(X)),
        "with nothing in between": [X[:30], X[:0], X[30:]],
        "one batch": [X],
        "array": X,
        "jax": [jnp.asarray(part) for part in cut(X.astype(np.float32))],
        "path": tmp_path / "x.npy",
        "text": str(tmp_path / "x.npy"),
        "mapped": mapped,
        "part of a map": np.load(tmp_path / "longer.npy", mmap_mode="r")[:90],
        "private map": private,
        "fortran": tmp_path / "fortran.npy",
    }
    agree(rank({m: forms[m] for m in forms if m != "jax"}, Y, memory_limit=LITTLE), whole)
    agree(rank({"jax": forms["jax"]}, Y), rank({"m": X.astype(np.float32)}, Y))
    loader = forms["loader"]
    assert loader.taken == 3  # SFDA takes three, the others none of their own


def test_a_private_map_is_not_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    changed = np.load(tmp_path / "x.npy", mmap_mode="c")
    changed[:, 0] = 0
    agree(rank({"m": changed}, Y, memory_limit=LITTLE), rank({"m": np.array(changed)}, Y))


@pytest.mark.parametrize("kind", ["shared labels", "own labels", "npz", "npz with labels.npy"])
def test_shards(kind: str, whole: jaxte.Ranking, tmp_path: Path) -> None:
    for index, (x, y) in enumerate(zip(cut(X, (8,)), cut(Y, (8,)), strict=True)):
        if kind.startswith("npz"):
            np.savez(tmp_path / f"part{index}.npz", features=x, labels=y if kind == "npz" else -y)
        else:
            np.save(tmp_path / f"features-{index}.npy", x)
            if kind == "own labels":
                np.save(tmp_path / f"labels-{index}.npy", y)
    if "labels" in kind and kind != "own labels":
        np.save(tmp_path / "labels.npy", Y)
    for limit in (LITTLE, 1 << 30):
        agree(rank({"m": tmp_path, "n": str(tmp_path)}, memory_limit=limit), whole)
    other = np.roll(Y, 1)
    agree(rank({"m": tmp_path}, other), rank({"m": X}, other))


def test_labels_that_come_with_the_batches(whole: jaxte.Ranking) -> None:
    pairs = Loader(X, Y)
    agree(rank({"m": pairs, "n": lambda: iter(pairs.batches)}), whole)
    agree(rank({"m": pairs}, num_classes=9), whole)
    agree(rank({"m": Loader(X), "n": pairs}, {"m": Y}), whole)
    x, y = regression(90, 6, outputs=2)
    agree(rank({"m": Loader(x, y)}, metrics="logme"), rank({"m": x}, y, metrics="logme"))
    one = rank({"m": Loader(x, y[:, 0])}, metrics="logme")
    agree(one, rank({"m": x}, y[:, 0], metrics="logme"))


def test_shuffled_batches_with_their_labels(whole: jaxte.Ranking) -> None:
    random = np.random.default_rng(0)

    def shuffled() -> Iterator[Any]:
        order = random.permutation(len(X))
        return zip(cut(X[order]), cut(Y[order]), strict=True)

    agree(rank({"m": shuffled}), whole)


@pytest.mark.parametrize("names", ["logme", "face", "sfda", "logme,face"])
@pytest.mark.parametrize("weighted", [False, True])
def test_as_few_passes_as_the_metrics_need(names: str, weighted: bool) -> None:
    loader, metrics = Loader(X), names.split(",")
    weights = np.arange(len(X)) % 3 if weighted else None
    streamed = rank({"m": loader}, Y, metrics=metrics, weights=weights)
    agree(streamed, rank({"m": X}, Y, metrics=metrics, weights=weights))
    assert loader.taken == (3 if "sfda" in names else 1)


def test_weights_and_offsets() -> None:
    weights = np.random.default_rng(0).integers(0, 3, len(X)) * 0.7
    holed, labels = X.copy(), Y.copy()
    holed[weights == 0], labels[weights == 0] = np.nan, -1
    streamed = rank({"m": cut(holed), "n": holed}, labels, weights=weights, memory_limit=LITTLE)
    agree(streamed, rank({"m": holed}, labels, weights=weights))
    far = X + 1e4
    agree(rank({"m": cut(far)}, Y), rank({"m": far}, Y), rel=1e-7)
    agree(rank({"m": cut(far)}, Y), rank({"m": X}, Y, metrics=("sfda", "face")), rel=1e-7)
    x, y = regression(60, 5)
    own = np.arange(60) % 3 + 0.5
    streamed = rank({"m": cut(x + 1e4)}, y + 1e4, weights=own, metrics="logme")
    agree(streamed, rank({"m": x + 1e4}, y + 1e4, weights=own, metrics="logme"), rel=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int8, np.uint16])
def test_types_are_promoted_batch_by_batch(dtype: Any) -> None:
    x = np.abs(20 * X).astype(dtype)
    whole = rank({"m": x.astype(np.float64)}, Y)
    agree(rank({"m": cut(x)}, Y), whole)
    mixed = [part.astype(np.float64) if i % 2 else part for i, part in enumerate(cut(x))]
    agree(rank({"m": mixed}, Y), whole)


def test_single_precision() -> None:
    streamed = rank({"m": cut(X)}, Y, precision="float32")
    agree(streamed, rank({"m": X}, Y), rel=1e-3)
    assert streamed.meta["precision"] == "float32"


def test_moments_are_ranked_too(whole: jaxte.Ranking) -> None:
    counts = np.bincount(Y)
    state = moments.update(moments.init(7, num_classes=4, class_counts=counts), X, Y)
    result = rank({"m": state, "n": X}, {"n": Y})
    for metric in ("logme", "face"):
        expected = whole.score("m", metric)
        assert result.score("m", metric) == pytest.approx(expected, rel=1e-3)
        assert result.score("n", metric) == pytest.approx(expected, rel=1e-9)
    assert "give the samples" in result.status("m", "sfda")


def test_a_pool_of_streamed_and_other_models() -> None:
    pool = {f"m{d}": blobs(90, d).features[:, :d] for d in (3, 5, 20, 33)}
    mixed = {m: cut(x) if i % 2 else x for i, (m, x) in enumerate(pool.items())}
    streamed, whole = rank(mixed, Y, normalize="minmax"), rank(pool, Y, normalize="minmax")
    for metric in METRICS:
        assert streamed.order(metric) == whole.order(metric)
        for model in pool:
            expected = whole.score(model, metric)
            assert streamed.score(model, metric) == pytest.approx(expected, rel=1e-8)
    assert streamed.terms("m5", "face") == pytest.approx(whole.terms("m5", "face"))


# --- iterators that are used up -------------------------------------------------------------------


def test_an_iterator_is_enough_for_metrics_that_look_once(whole: jaxte.Ranking) -> None:
    result = rank({"m": iter(cut(X))}, Y)
    assert result.score("m", "logme") == pytest.approx(whole.score("m", "logme"), rel=1e-9)
    for metric in ("sfda", "face"):
        assert "more than once" in result.status("m", metric)
        assert "function that returns an iterator" in result.status("m", metric)
    agree(rank({"m": iter(cut(X))}, Y, metrics=("face",)), rank({"m": X}, Y, metrics=("face",)))
    even = np.arange(len(X)) % 3
    pairs = zip(cut(X), cut(even), strict=True)
    agree(rank({"m": pairs}, metrics="face", num_classes=3), rank({"m": X}, even, metrics="face"))
    taken = iter(cut(X))
    with pytest.raises(jaxte.InputError, match="sfda looks at the samples more than once"):
        rank({"m": taken}, Y, metrics="sfda")
    assert len(list(taken)) == len(cut(X))  # nothing was taken in vain


def test_an_iterator_with_labels_needs_the_number_of_classes(whole: jaxte.Ranking) -> None:
    with pytest.raises(jaxte.InputError, match=r"num_classes=\.\.\."):
        rank({"m": iter(Loader(X, Y))}, metrics="logme")
    result = rank({"m": iter(Loader(X, Y))}, metrics="logme", num_classes=4)
    assert result.score("m", "logme") == pytest.approx(whole.score("m", "logme"), rel=1e-9)


# --- what goes wrong with one model ---------------------------------------------------------------


def broken(at: int, **entries: float) -> Array:
    x = X.copy()
    x[at, 3] = entries.get("value", np.nan)
    return x


def failing() -> Iterator[Array]:
    yield X[:40]
    raise OSError("the disk is gone")


def used_up() -> Any:
    batches = iter(cut(X))
    return lambda: batches


def truncated(folder: Path) -> Path:
    folder.mkdir()
    for index, part in enumerate(cut(X, (30,))):
        np.save(folder / f"features-{index}.npy", part)
    last = folder / "features-2.npy"
    last.write_bytes(last.read_bytes()[:-8])
    np.save(folder / "labels.npy", Y)
    return folder


class Shuffled:
    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def __iter__(self) -> Iterator[Array]:
        return iter(cut(self.random.permutation(X)))


def test_failures_stop_no_other_model(whole: jaxte.Ranking, tmp_path: Path) -> None:
    pool: dict[str, tuple[Any, str]] = {
        "good": (cut(X), ""),
        "nan": (cut(broken(55)), r"NaN or infinity, first in row 55"),
        "last row": (cut(broken(89)), r"first in row 89"),
        "infinite array": (broken(70, value=np.inf), r"first in row 70"),
        "wider": ([X[:40], X[40:, :5]], r"batch 1 has 5 columns, others have 7"),
        "short": ([X[:40]], r"end after 40 rows, but targets have 90"),
        "long": ([X, X], r"more than the 90 rows that targets have"),
        "none": ([X[:0]], r"no batches"),
        "images": ([X[:, :, None]], r"batch 0 has shape \(90, 7, 1\).*pool"),
        "words": ([X[:40].astype(str), X[40:]], r"features of batch 0 have dtype <U"),
        "failing": (failing, r"batch 1 could not be read: OSError: the disk is gone"),
        "used up": (used_up(), r"no batches: was the iterator used up"),
        "shuffled": (Shuffled(), r"another order the second time.*shuffle"),
        "labels twice": (Loader(X, Y), r"labels come with the batches and in targets"),
        "triples": ([(X, Y, Y)], r"batch 0 has 3 parts"),
        "no function": (lambda: 3, r"gave int, not an iterator"),
        "no path": (tmp_path / "nowhere.npy", r"nowhere\.npy does not exist"),
        "truncated": (truncated(tmp_path / "cut"), r"features-2\.npy is truncated"),
        "dictionary": ({"x": X}, r"features are a dict"),
    }
    result = rank({m: source for m, (source, _) in pool.items()}, Y, memory_limit=LITTLE)
    for metric in METRICS:
        assert result.order(metric) == ["good"]
        expected = whole.score("m", metric)
        assert result.score("good", metric) == pytest.approx(expected, rel=1e-9)
        for model, (_, reason) in pool.items():
            if reason and model != "used up":
                assert np.isnan(result.score(model, metric))
                assert re.search(reason, result.status(model, metric)), result.status(model, metric)


def test_failures_of_labels_that_come_with_batches() -> None:
    high, low, floats = Y.copy(), Y.copy(), Y.astype(float)
    high[50], low[50] = 9, -1
    pool: dict[str, Any] = {
        "good": Loader(X, Y),
        "high": Loader(X, high),
        "low": Loader(X, low),
        "missing": Loader(X),
        "some": [(X[:40], Y[:40]), X[40:]],
        "changed": [(X[:40], Y[:40]), (X[40:], floats[40:])],
        "fewer": [(X[:40], Y[:39])],
        "alike": Loader(X, 0 * Y),
    }
    reasons = {
        "high": "labels contain 9, but num_classes is 4 (0..3), first in row 29",
        "low": "labels contain -1",
        "missing": "batch 0 comes without labels",
        "some": "batch 1 comes without labels",
        "changed": "labels of type float64, unlike the first",
        "fewer": "40 rows but labels (39,)",
        "alike": "two classes",
    }
    result = rank(pool, num_classes=4)
    assert result.order("sfda") == ["good"]
    for model, reason in reasons.items():
        assert reason in result.status(model, "logme")
    with pytest.raises(jaxte.InputError, match="labels contain -1, first in row 50"):
        rank({"low": Loader(X, low)})
    x, y = regression(90, 7)
    y[33] = np.nan
    with pytest.raises(
        jaxte.InputError, match=r"batch 3: labels contain NaN or infinity, first in row 12"
    ):
        rank({"m": Loader(x, y)}, metrics="logme")
    y[33] = 0
    mixed = rank({"m": Loader(x, y)}, metrics=("logme", "sfda"))
    assert mixed.status("m", "logme") == "ok"
    assert "sfda needs classes" in mixed.status("m", "sfda")


def test_wrong_weights_and_perturbations() -> None:
    for weights, said in ((np.ones(80), "80"), (-np.ones(90), "weights"), (np.zeros(90), "all")):
        with pytest.raises(jaxte.InputError, match=said):
            rank({"m": cut(X)}, Y, weights=weights)
    with pytest.raises(jaxte.InputError, match=r"perturb needs all samples.*np\.concatenate"):
        rank({"m": cut(X)}, Y, perturb="spread")
    result = rank({"m": X}, Y, perturb="spread", memory_limit=LITTLE)  # an array is all there
    assert result.status("m", "sfda") == "ok"


# --- how it runs ----------------------------------------------------------------------------------


def test_progress_counts_rows_of_each_pass() -> None:
    seen: list[tuple[int, int | None, str]] = []
    rank({"net": cut(X)}, Y, memory_limit=LITTLE, progress=lambda *step: seen.append(step))
    labels = list(dict.fromkeys(label for _, _, label in seen))
    assert labels == ["net: pass 1", "net: pass 2", "net: pass 3"]
    for label in labels:
        assert [(done, total) for done, total, at in seen if at == label] == [(64, 90), (90, 90)]
    seen.clear()
    pairs = Loader(X, Y)
    rank({"net": pairs}, metrics="logme", progress=lambda *step: seen.append(step))
    assert seen[0] == (1, None, "net: labels")
    assert seen[-1] == (90, 90, "net: pass 1")


def test_batches_are_made_in_the_callers_own_precision() -> None:
    def batches() -> Iterator[Any]:
        assert jnp.zeros(()).dtype == jnp.float32
        return (jnp.asarray(part) * 1.0 for part in cut(X))

    agree(rank({"m": batches}, Y), rank({"m": X.astype(np.float32)}, Y))
    assert jnp.zeros(()).dtype == jnp.float32


@pytest.mark.parametrize("size", [1e-20, 1e18])
def test_float32_squares_features_of_any_size(size: float) -> None:
    """Their squares are no numbers of float32: a unit is divided by first, streamed too."""
    x = np.float32(size) * X.astype(np.float32)
    metrics = ("sfda", "hscore", "ridge_probe", "effective_rank", "lidar", "disco")
    ranking = jaxte.rank({"memory": x, "stream": cut(x)}, Y, metrics=metrics, precision="float32")
    for metric in metrics:
        assert ranking.status("stream", metric) == "ok"
        expected = ranking.score("memory", metric)
        assert ranking.score("stream", metric) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_later_batch_that_overflows_when_squared_is_a_status() -> None:
    x = np.repeat(X.astype(np.float32), 100, axis=0)
    x[-1] = 1e30
    labels = np.repeat(Y, 100)
    ranking = jaxte.rank({"x": cut(x, (500,)), "fine": x * 0 + 1}, labels, precision="float32")
    for metric in ranking.metrics:
        assert "range of float32" in ranking.status("x", metric)
