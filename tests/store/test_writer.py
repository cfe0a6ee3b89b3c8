"""Writing stores: what is stored, what is refused, and what a resumed one goes on with."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jaxte import InputError
from jaxte.store import FeatureStore, MemoryWriter, Writer

from .data import LOGITS, SIZES, WHAT, X, Y, Z, assert_whole, batches, begun, content, go_on, stored


def test_a_store_holds_what_was_appended(tmp_path: Path) -> None:
    store = stored(tmp_path / "store")
    assert_whole(store)
    assert (store.rows, store.layers, store.complete) == (60, ("blocks/1", "head"), True)
    assert store["head"].shape == Z.shape
    assert (store.name, store.dataset) == ("net", "toy")
    store.verify()
    assert "60 rows" in repr(store)


def test_files_are_plain_npy_of_at_least_so_many_rows(tmp_path: Path) -> None:
    stored(tmp_path)
    shards = [np.load(f) for f in sorted((tmp_path / "layer-blocks-1").glob("features-*.npy"))]
    assert [len(shard) for shard in shards] == [20, 16, 16, 8]
    np.testing.assert_array_equal(np.concatenate(shards), X)
    labels = [np.load(f) for f in sorted((tmp_path / "labels").glob("labels-*.npy"))]
    np.testing.assert_array_equal(np.concatenate(labels), Y)
    assert not list(tmp_path.rglob("*.part"))


def test_the_manifest_says_what_it_is(tmp_path: Path) -> None:
    stored(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("jaxte-store", 1)
    assert manifest["state"] == "complete"
    assert manifest["model"] == WHAT["model"]
    assert manifest["data"] == WHAT["data"]
    assert manifest["settings"] == {"pool": "mean"}
    assert manifest["layers"]["head"] == {"dir": "layer-head", "width": 3}
    assert (manifest["rows"], manifest["examples"], manifest["batches"]) == (60, 61, 10)
    assert [shard["rows"] for shard in manifest["shards"]] == [20, 16, 16, 8]
    assert "jax" in manifest["versions"][0]
    assert manifest == FeatureStore.open(tmp_path).manifest


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_types_of_features_come_back(dtype: str, where: str, tmp_path: Path) -> None:
    what = WHAT | {"dtype": dtype}
    with Writer(tmp_path, **what) if where == "disk" else MemoryWriter(**what) as writer:
        for features, labels, logits, examples, digest in batches():
            writer.append(features, labels, logits, examples=examples, digest=digest)
        store = writer.finish()
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    for result, argument in ((store["blocks/1"], X), (store["head"], Z), (store.logits, LOGITS)):
        array = np.asarray(result)
        assert array.dtype == kind
        np.testing.assert_array_equal(array, argument.astype(kind))
    np.testing.assert_array_equal(store.labels, Y)
    (_, _), *_ = store["head"].source().read(7)
    np.testing.assert_array_equal(store["head"].source().load(), Z.astype(kind))


LABELS: dict[str, tuple[Any, str]] = {
    "int64": (Y, "int64"),
    "int32": (Y.astype(np.int32), "int32"),
    "bytes": (Y.astype(np.uint8), "int64"),
    "bool": (Y > 0, "int64"),
    "targets": (X[:, 0], "float32"),
    "several": (X[:, :2], "float32"),
    "half": (X[:, :2].astype(np.float16), "float32"),
    "float64": (X[:, 0].astype(np.float64), "float64"),
    "list": (Y.tolist(), "int64"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_types_of_labels_come_back(kind: str, tmp_path: Path) -> None:
    labels, dtype = LABELS[kind]
    with Writer(tmp_path, model={}, data={}, layers=["only"], shard_rows=20) as writer:
        for part in (slice(0, 31), slice(31, 60)):
            writer.append({"only": X[part]}, labels[part], examples=1, digest="")
        store = writer.finish()
    assert store.labels.dtype == dtype
    np.testing.assert_array_equal(store.labels, np.asarray(labels))
    assert store.logits is None


def test_a_batch_may_be_filled_again_by_its_owner() -> None:
    buffer = np.ones((2, 3), np.float32)
    writer = MemoryWriter(model={}, data={}, layers=["only"])
    for value in (1, 2):
        buffer[:] = value
        writer.append({"only": buffer}, [0, 1], examples=2, digest="")
    assert np.asarray(writer.finish())[:, 0].tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("until", range(len(SIZES) + 1))
def test_a_closed_writer_is_resumed(until: int, tmp_path: Path) -> None:
    stored(tmp_path / "whole")
    begun(tmp_path / "store", until)
    with Writer(tmp_path / "store", **WHAT) as writer:
        assert len(writer.batches) == until
        assert writer.digests == [f"digest {index}" for index in range(until)]
        assert writer.rows == sum(SIZES[:until])
        assert writer.examples == sum(max(size, 1) for size in SIZES[:until])
        assert not writer.complete
        store = go_on(writer).finish()
    assert_whole(store)
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_a_complete_store_takes_nothing_more(tmp_path: Path) -> None:
    stored(tmp_path)
    before = content(tmp_path)
    with Writer(tmp_path, **WHAT) as writer:
        assert writer.complete
        assert (writer.rows, writer.examples, len(writer.digests)) == (60, 61, len(SIZES))
        with pytest.raises(InputError, match="is complete"):
            writer.append({"blocks/1": X, "head": Z}, Y, LOGITS, examples=60, digest="")
        assert_whole(writer.finish())
    assert content(tmp_path) == before


def test_versions_of_libraries_are_told_and_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, 3)
    monkeypatch.setattr("jaxte.store.writer.versions", lambda: {"jax": "99"})
    monkeypatch.setattr("jaxte.store.manifest.versions", lambda: {"jax": "99"})
    card = {"size": 32, "versions": {"flax": "2"}}
    with Writer(tmp_path, **WHAT | {"model": WHAT["model"] | {"card": card}}) as writer:
        store = go_on(writer).finish()
    assert [entry["jax"] == "99" for entry in store.meta["versions"]] == [False, True]
    assert store.meta["model"]["card"]["versions"] == {"flax": "1"}


CHANGED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "fingerprint": (
        {"model": WHAT["model"] | {"fingerprint": "xyz"}},
        ['model.fingerprint was "abc", now it is "xyz"'],
    ),
    "card": (
        {"model": {"name": "net", "fingerprint": "abc", "card": {"size": 64, "crop": True}}},
        ["model.card.size was 32, now it is 64", "model.card.crop was not there, now it is true"],
    ),
    "data": (
        {"data": {"name": "toy", "rows": 3}},
        ['data.split was "train", now it is not there', "data.rows was not there, now it is 3"],
    ),
    "dtype": ({"dtype": "float16"}, ['dtype was "float32", now it is "float16"']),
    "layers": ({"layers": ["head"]}, ['layers was ["blocks/1", "head"], now it is ["head"]']),
    "settings": ({"settings": {}}, ['settings.pool was "mean", now it is not there']),
}


@pytest.mark.parametrize("state", ["unfinished", "complete"])
@pytest.mark.parametrize("case", CHANGED)
def test_a_store_of_something_else_is_refused(case: str, state: str, tmp_path: Path) -> None:
    changes, messages = CHANGED[case]
    begun(tmp_path, 4) if state == "unfinished" else stored(tmp_path)
    before = content(tmp_path)
    with pytest.raises(InputError) as raised:
        Writer(tmp_path, **WHAT | changes)
    for message in [*messages, "out=", "delete"]:
        assert message in str(raised.value)
    after = content(tmp_path)
    assert after == before
    with Writer(tmp_path, **WHAT) as writer:  # and the lock is free
        assert len(writer.batches) == (4 if state == "unfinished" else len(SIZES))


def test_equal_settings_in_other_terms_are_equal(tmp_path: Path) -> None:
    argument: dict[str, Any]
    argument = {"model": {"mean": (0.5, 0.25), 3: np.float32(0.5)}, "settings": {"sizes": [1]}}
    Writer(tmp_path, data={}, layers=["a"], **argument).close()
    again: dict[str, Any]
    again = {"model": {"mean": [0.5, 0.25], "3": 0.5}, "settings": {"sizes": np.array([1])}}
    with Writer(tmp_path, data={}, layers=("a",), **again) as writer:
        assert not writer.complete


def test_a_resumed_store_keeps_its_own_shards(tmp_path: Path) -> None:
    begun(tmp_path, 4)
    with Writer(tmp_path, **WHAT | {"shard_rows": 1000}) as writer:
        store = go_on(writer).finish()
    assert [shard["rows"] for shard in store.manifest["shards"]] == [20, 16, 16, 8]


GOOD = ({"blocks/1": X[:2], "head": Z[:2]}, Y[:2], LOGITS[:2])
BAD: dict[str, tuple[Any, str]] = {
    "a layer too few": (({"head": Z[:2]}, *GOOD[1:]), "batch 1 has layers head, the store has"),
    "another width": (
        ({"blocks/1": X[:2, :4], "head": Z[:2]}, *GOOD[1:]),
        r"batch 1: features of blocks/1 have shape \[2, 4\], expected \[2, 5\]",
    ),
    "other rows": (
        ({"blocks/1": X[:2], "head": Z[:3]}, *GOOD[1:]),
        r"features of head have shape \[3, 3\]",
    ),
    "not pooled": (({"blocks/1": X[:2, None], "head": Z[:2]}, *GOOD[1:]), "pool or flatten"),
    "objects": (({"blocks/1": [[None], [1]], "head": Z[:2]}, *GOOD[1:]), "type object"),
    "no logits": ((*GOOD[:2], None), "batch 1 has no logits, but those before have logits"),
    "logits": ((*GOOD[:2], LOGITS[:2, :3]), r"logits have shape \[2, 3\], expected \[2, 7\]"),
    "floats": ((GOOD[0], Y[:2] + 0.5, GOOD[2]), "labels of type float64, before int64"),
    "texts": ((GOOD[0], ["a", "b"], GOOD[2]), "labels of type <U1"),
    "matrix of classes": ((GOOD[0], Y[:2, None] + [0, 5], GOOD[2]), "give classes as integers"),
    "too large": (
        ({"blocks/1": X[:2], "head": Z[:2].astype(np.float64) * 1e300}, *GOOD[1:]),
        "which float32 cannot hold",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_batch_that_does_not_fit_is_refused_and_stops_nothing(case: str, tmp_path: Path) -> None:
    (features, labels, logits), message = BAD[case]
    with Writer(tmp_path, **WHAT) as writer:
        go_on(writer, 1)
        with pytest.raises(InputError, match=message):
            writer.append(features, labels, logits, examples=2, digest="bad")
        store = go_on(writer).finish()
    assert_whole(store)


def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    for dtype, fits in (("float16", False), ("bfloat16", True)):
        with Writer(tmp_path / dtype, model={}, data={}, layers=["a"], dtype=dtype) as writer:
            values = np.array([[1.0], [np.nan], [7e4]], np.float32)
            if not fits:
                with pytest.raises(
                    InputError, match=r"70000\.0 in row 2, which float16 cannot hold"
                ):
                    writer.append({"a": values}, [0, 1, 2], examples=3, digest="")
                values[2] = np.inf  # is no number that is lost
            writer.append({"a": values}, [0, 1, 2], examples=3, digest="")


def test_labels_that_do_not_fit_the_first_ones_are_refused(tmp_path: Path) -> None:
    with Writer(tmp_path, model={}, data={}, layers=["a"]) as writer:
        writer.append({"a": X[:2]}, np.array([0, 1], np.int32), examples=2, digest="")
        writer.append({"a": X[:2]}, np.array([0, 1]), examples=2, digest="")
        with pytest.raises(InputError, match="which int32 cannot hold"):
            writer.append({"a": X[:2]}, np.array([0, 1 << 40]), examples=2, digest="")
        assert writer.finish().labels.tolist() == [0, 1, 0, 1]


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no layers": ({"layers": []}, "at least one name"),
    "a layer twice": ({"layers": ["a", "a"]}, "only once"),
    "another type": ({"dtype": "int8"}, "features of type int8 cannot be stored"),
    "no rows": ({"shard_rows": 0}, "shard_rows is 0"),
    "an object": ({"model": {"fn": print}}, "model.fn is a builtin_function_or_method"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_what_cannot_be_stored_is_named(case: str, tmp_path: Path) -> None:
    changes, message = ARGUMENTS[case]
    with pytest.raises(InputError, match=message):
        Writer(tmp_path / "new", **WHAT | changes)
    assert not (tmp_path / "new").exists()


def test_names_of_layers_that_look_alike_get_directories_of_their_own(tmp_path: Path) -> None:
    names = ["a/b", "a.b", "A/B", "labels", "logits", "..", "", "x" * 300, "con"]
    with Writer(tmp_path, model={}, data={}, layers=names) as writer:
        features = {name: np.full((2, 1), index) for index, name in enumerate(names)}
        writer.append(features, [0, 1], examples=2, digest="")
        store = writer.finish()
    folders = [entry["dir"] for entry in store.manifest["layers"].values()]
    assert len({folder.lower() for folder in folders}) == len(names)
    assert all((tmp_path / folder).parent == tmp_path for folder in folders)
    for index, name in enumerate(names):
        assert np.asarray(store[name]).tolist() == [[index], [index]]


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(InputError, match=r"no store and not empty \(it holds thesis.txt\)"):
        Writer(tmp_path, **WHAT)
    (tmp_path / "manifest.json").write_text('{"name": "another tool"}')
    with pytest.raises(InputError, match="no manifest of a jaxte store"):
        Writer(tmp_path, **WHAT)
    with pytest.raises(InputError, match=r"thesis\.txt is a file: name a directory"):
        Writer(tmp_path / "thesis.txt", **WHAT)
    assert (tmp_path / "thesis.txt").read_text() == "chapter 1"


def test_nothing_is_no_store(tmp_path: Path) -> None:
    with Writer(tmp_path, **WHAT) as writer, pytest.raises(InputError, match="no rows"):
        writer.finish()
    with pytest.raises(InputError, match="closed"):
        go_on(writer)
