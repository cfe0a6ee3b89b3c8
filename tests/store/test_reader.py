"""Reading stores: unfinished, damaged and hostile ones, and what `jaxte.rank` makes of them."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxte
from jaxte import InputError
from jaxte.store import Batch, FeatureStore, MemoryWriter, Parts, Writer
from jaxte.store.journal import line

from .data import LOGITS, WHAT, X, Y, Z, assert_whole, begun, content, go_on, stored

# --- unfinished -----------------------------------------------------------------------------------


def test_an_unfinished_store_says_what_it_holds(tmp_path: Path) -> None:
    begun(tmp_path, 6)
    with pytest.raises(
        InputError, match=r"is unfinished: 33 rows in 6 batches are stored.*partial"
    ):
        FeatureStore.open(tmp_path)
    with pytest.raises(InputError, match="is unfinished: 33 rows"):
        jaxte.rank({"net": tmp_path}, Y)
    before = content(tmp_path)
    store = FeatureStore.open(tmp_path, partial=True)
    assert (store.rows, store.complete) == (33, False)
    np.testing.assert_array_equal(store["blocks/1"], X[:33])
    np.testing.assert_array_equal(store.labels, Y[:33])
    assert store.logits is not None
    np.testing.assert_array_equal(store.logits[20:], LOGITS[20:33])
    store.verify()
    assert "unfinished" in repr(store)
    ranking = jaxte.rank({"net": store}, metrics="face")
    assert ranking.score("net@head", "face") == pytest.approx(
        jaxte.rank({"x": Z[:33]}, Y[:33], metrics="face").score("x", "face")
    )
    assert content(tmp_path) == before
    with Writer(tmp_path, **WHAT) as writer:
        go_on(writer).finish()
    assert FeatureStore.open(tmp_path, partial=True).complete


def test_nothing_stored_is_nothing_to_read(tmp_path: Path) -> None:
    begun(tmp_path, 0)
    with pytest.raises(InputError, match="nothing is stored in it yet"):
        FeatureStore.open(tmp_path, partial=True)
    with pytest.raises(InputError, match="0 rows in 0 batches"):
        FeatureStore.open(tmp_path)
    with pytest.raises(InputError, match="is no store"):
        FeatureStore.open(tmp_path.parent)
    with pytest.raises(InputError, match="no directory"):
        FeatureStore.open(tmp_path / "missing")


def test_torn_batches_are_not_read(tmp_path: Path) -> None:
    begun(tmp_path, 6)
    part = tmp_path / "logits" / "logits-000001.npy.part"
    damaged = bytearray(part.read_bytes())
    damaged[-1] ^= 1
    part.write_bytes(damaged)
    assert FeatureStore.open(tmp_path, partial=True).rows == 21
    store = FeatureStore.open(tmp_path, partial=True)
    file = tmp_path / "labels" / "labels-000000.npy"
    file.write_bytes(file.read_bytes()[:-8] + bytes([9] * 8))
    with pytest.raises(InputError, match=r"labels-000000\.npy: damaged"):
        store.verify()


# --- damaged --------------------------------------------------------------------------------------


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_type(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"<f4", b"<i4", 1))


def pickled(path: Path) -> None:
    """An array of objects, of the right size."""
    size = path.stat().st_size
    objects = pickle.dumps([Bomb()])
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    path.write_bytes((header.ljust(127) + b"\n" + objects).ljust(size, b"\0")[:size])


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("something was unpickled",))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "a directory": (replaced, "is missing"),
    "shorter": (shorter, "is truncated"),
    "longer": (longer, "is too long"),
    "empty": (lambda path: path.write_bytes(b""), "is truncated, 0 bytes"),
    "another type": (other_type, "is not float32 [16, 3]"),
    "pickled": (pickled, "is not float32 [16, 3]"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_shards_are_named(case: str, tmp_path: Path) -> None:
    stored(tmp_path)
    damage, message = DAMAGE[case]
    damage(tmp_path / "layer-head" / "features-000001.npy")
    with pytest.raises(InputError) as raised:
        FeatureStore.open(tmp_path)
    assert "layer-head/features-000001.npy" in str(raised.value)
    assert message in str(raised.value)
    with pytest.raises(InputError, match=r"features-000001\.npy"):
        jaxte.rank({"net": tmp_path})


@pytest.mark.parametrize("case", ["missing", "shorter"])
def test_damaged_shards_stop_a_resumed_writer(case: str, tmp_path: Path) -> None:
    begun(tmp_path, 8)
    damage, message = DAMAGE[case]
    damage(tmp_path / "layer-head" / "features-000000.npy")
    with pytest.raises(InputError, match=rf"features-000000\.npy {message}"):
        Writer(tmp_path, **WHAT)
    with pytest.raises(InputError, match=rf"features-000000\.npy {message}"):
        FeatureStore.open(tmp_path, partial=True)


def test_verify_names_what_was_changed(tmp_path: Path) -> None:
    store = stored(tmp_path)
    store.verify()
    changed = [
        tmp_path / "layer-blocks-1" / "features-000002.npy",
        tmp_path / "labels" / "labels-000000.npy",
    ]
    for file in changed:
        damaged = bytearray(file.read_bytes())
        damaged[-3] ^= 64
        file.write_bytes(damaged)
    with pytest.raises(InputError) as raised:
        FeatureStore.open(tmp_path).verify()
    assert all(str(file) in str(raised.value) for file in changed)
    assert "features-000001" not in str(raised.value)
    stored(tmp_path / "memory").verify()
    writer = MemoryWriter(model={}, data={}, layers=["a"])
    writer.append({"a": X}, Y, examples=60, digest="")
    writer.finish().verify()


# --- hostile --------------------------------------------------------------------------------------


def tampered(directory: Path, **changes: Any) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        entry = manifest
        for name in parents:
            entry = entry[int(name) if name.isdigit() else name]
        entry[last] = value
    (directory / "manifest.json").write_text(json.dumps(manifest))


TAMPERED: dict[str, dict[str, Any]] = {
    "up": {"layers__head__dir": ".."},
    "up and down": {"layers__head__dir": "../other/layer-head"},
    "absolute": {"layers__head__dir": "/etc"},
    "hidden": {"layers__head__dir": ".ssh"},
    "below": {"layers__head__dir": "layer-head/.."},
    "backslashes": {"layers__head__dir": "..\\other"},
    "empty": {"layers__head__dir": ""},
    "null byte": {"layers__head__dir": "layer\0head"},
    "a number": {"layers__head__dir": 3},
    "of the labels": {"layers__head__dir": "labels"},
    "the same twice": {"layers__head__dir": "layer-blocks-1"},
    "negative rows": {"shards__0__rows": -1},
    "other rows": {"shards__0__rows": 21},
    "huge width": {"layers__head__width": 1 << 70},
    "negative width": {"layers__head__width": -3},
    "width as a text": {"layers__head__width": "3"},
    "true width": {"layers__head__width": True},
    "type": {"dtype": "object"},
    "type of labels": {"labels__dtype": "O"},
    "no checksums": {"shards__1__crc32": {}},
    "odd checksums": {"shards__1__crc32": {"labels": "wrong"}},
    "no rows": {"rows": 0, "shards": []},
    "state": {"state": "fine"},
    "no layers": {"layers": {}},
    "layers as a list": {"layers": ["head"]},
    "no labels": {"labels": None},
    "model": {"model": "net"},
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_manifest_is_refused(case: str, tmp_path: Path) -> None:
    stored(tmp_path / "other")
    stored(tmp_path / "store")
    tampered(tmp_path / "store", **TAMPERED[case])
    before = content(tmp_path)
    with pytest.raises(InputError, match=r"manifest\.json is damaged \("):
        FeatureStore.open(tmp_path / "store")
    with pytest.raises(InputError, match=r"manifest\.json is damaged \("):
        Writer(tmp_path / "store", **WHAT)
    assert content(tmp_path) == before


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    stored(tmp_path)
    file = tmp_path / "manifest.json"
    good = file.read_text()
    for text, message in (
        (good[:-40], "cannot be read"),
        ("[]", "no JSON object"),
        ("[" * 100_000, "cannot be read"),
        ("\udcff", "cannot be read"),
        (good.replace("jaxte-store", "other"), "no manifest of a jaxte store"),
        (good.replace('"version": 1', '"version": 2'), "format version 2"),
        (good.replace('"layers"', '"layer"'), "no 'layers'"),
    ):
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(InputError, match=message):
            FeatureStore.open(tmp_path)


def linked(path: Path, target: Path) -> None:
    """The path as a symbolic link to what lies at the target now."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, target)
    path.symlink_to(target)


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
@pytest.mark.parametrize(
    "name", ["layer-head", "layer-head/features-000001.npy", "labels", "manifest.json"]
)
def test_links_that_lead_outside_are_not_followed(name: str, tmp_path: Path) -> None:
    stored(tmp_path / "store")
    linked(tmp_path / "store" / name, tmp_path / "outside" / "moved")
    with pytest.raises(InputError, match="leads out of the store"):
        FeatureStore.open(tmp_path / "store")


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
@pytest.mark.parametrize(
    "name",
    [
        "layer-head",
        "layer-head/features-000001.npy.part",
        "journal.jsonl",
        "layer-head/features-000000.npy",
    ],
)
def test_links_that_lead_outside_are_not_written(name: str, tmp_path: Path) -> None:
    begun(tmp_path / "store", 6)
    linked(tmp_path / "store" / name, tmp_path / "outside" / "moved")
    before = content(tmp_path)
    with pytest.raises(InputError, match="leads out of the store"):
        Writer(tmp_path / "store", **WHAT)
    assert content(tmp_path) == before


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
def test_files_that_are_about_to_be_written_may_be_no_links(tmp_path: Path) -> None:
    begun(tmp_path / "store", 6)
    target = tmp_path / "precious"
    target.write_text("as it was")
    for name in ("manifest.json.part", ".writer.part", "labels/labels-000002.npy.part"):
        (tmp_path / "store" / name).symlink_to(target)
    with Writer(tmp_path / "store", **WHAT) as writer:
        assert_whole(go_on(writer).finish())
    assert target.read_text() == "as it was"


@pytest.mark.skipif(os.name == "nt", reason="links need privileges")
def test_links_inside_and_to_the_store_are_fine(tmp_path: Path) -> None:
    stored(tmp_path / "store")
    linked(tmp_path / "store" / "layer-head", tmp_path / "store" / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert_whole(FeatureStore.open(tmp_path / "link"))


def test_a_journal_of_another_store_vouches_for_nothing(tmp_path: Path) -> None:
    begun(tmp_path / "one", 2)
    with Writer(tmp_path / "other", **WHAT | {"layers": ["x"]}) as writer:
        writer.append({"x": X}, Y, LOGITS, examples=60, digest="")
    shutil.copy(tmp_path / "other" / "journal.jsonl", tmp_path / "one" / "journal.jsonl")
    with pytest.raises(InputError, match="nothing is stored"):
        FeatureStore.open(tmp_path / "one", partial=True)


def test_a_journal_that_claims_too_much_is_not_believed(tmp_path: Path) -> None:
    begun(tmp_path, 2)
    claim = Batch(1 << 60, 1, "", dict.fromkeys(("layer-blocks-1", "layer-head", "labels"), 0))
    with (tmp_path / "journal.jsonl").open("ab") as stream:
        stream.write(line(claim))
    assert FeatureStore.open(tmp_path, partial=True).rows == 11
    with Writer(tmp_path, **WHAT) as writer:
        assert len(writer.batches) == 2
        assert_whole(go_on(writer).finish())


# --- arrays ---------------------------------------------------------------------------------------


def test_arrays_are_mapped_where_they_lie_in_one_shard(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", shard_rows=1000)
    assert isinstance(one["head"].features(), np.memmap)
    several = stored(tmp_path / "several")
    assert type(several["head"].features()) is np.ndarray
    assert several["head"].__array__(np.float16).dtype == np.float16


def test_a_layer_has_to_be_chosen(tmp_path: Path) -> None:
    store = stored(tmp_path)
    for use in (lambda: store.shape, store.features, store.source, lambda: np.asarray(store)):
        with pytest.raises(InputError, match="several layers: choose one of blocks/1, head"):
            use()
    with pytest.raises(InputError, match="no layer 'neck' in the store: it has blocks/1, head"):
        store["neck"]
    assert len(store) == 60


def test_parts_are_indexed_like_one_array() -> None:
    whole = np.random.default_rng(1).normal(size=(20, 3))
    parts = Parts(np.split(whole, [1, 1, 8]))
    mask = np.arange(20) % 3 == 0
    for rows in (0, 7, 8, -1, slice(None), slice(3, 12), slice(19, 2, -4), [], [19, 0, 8, 8], mask):
        np.testing.assert_array_equal(parts[rows], whole[rows])
    with pytest.raises(IndexError):
        parts[20]
    with pytest.raises(ValueError, match="several parts"):
        np.asarray(parts, copy=False)
    assert (len(parts), parts.shape, parts.dtype, parts.ndim) == (20, (20, 3), whole.dtype, 2)
