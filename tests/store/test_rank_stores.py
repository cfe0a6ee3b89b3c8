"""What `jaxte.rank` makes of stores: the scores of their arrays."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import jaxte
from jaxte import InputError
from jaxte.store import FeatureStore, MemoryWriter, Writer

from .data import SIZES, WHAT, X, Y, Z, begun, go_on, stored

LITTLE, MUCH = 1000, 1 << 30  # bytes of memory: everything is streamed, or nothing


def agree(result: jaxte.Ranking, wanted: jaxte.Ranking) -> None:
    assert result.models == wanted.models
    for model in wanted.models:
        for metric in wanted.metrics:
            assert result.status(model, metric) == "ok"
            assert result.score(model, metric) == pytest.approx(
                wanted.score(model, metric), rel=1e-9
            )


@pytest.mark.slow
def test_every_metric_scores_a_store_as_its_arrays(tmp_path: Path, streamed: list[str]) -> None:
    store = stored(tmp_path)
    whole = jaxte.rank({"net@blocks/1": X, "net@head": Z}, Y)
    agree(jaxte.rank({"net": store}), whole)
    assert streamed == []
    agree(jaxte.rank({"net": store}, memory_limit=LITTLE), whole)
    assert streamed == ["net@blocks/1", "net@head"]


@pytest.mark.parametrize("source", ["store", "path", "text", "memory", "partial"])
def test_every_form_of_a_store(source: str, tmp_path: Path, streamed: list[str]) -> None:
    net: Any
    if source == "memory":
        writer = MemoryWriter(**WHAT)
        go_on(writer)
        net = writer.finish()
    elif source == "partial":
        net = FeatureStore.open(begun(tmp_path, len(SIZES)), partial=True)
    else:
        net = {"store": stored(tmp_path), "path": tmp_path, "text": str(tmp_path)}[source]
    wanted = jaxte.rank({"net@blocks/1": X, "net@head": Z}, Y, metrics="face")
    for targets in (None, Y, {"net": Y}):
        for limit in (MUCH, LITTLE):
            agree(jaxte.rank({"net": net}, targets, metrics="face", memory_limit=limit), wanted)
    assert streamed == ["net@blocks/1", "net@head"] * 3


def test_one_layer_keeps_the_name_and_other_targets_win(tmp_path: Path) -> None:
    store = stored(tmp_path)
    other = np.roll(Y, 1)
    result = jaxte.rank(
        {"head": store["head"], "net": store, "array": X},
        {"net": other, "net@head": Y, "array": Y},
        metrics="face",
    )
    assert result.models == ("head", "net@blocks/1", "net@head", "array")
    wanted = jaxte.rank({"right": Z, "wrong": X}, {"right": Y, "wrong": other}, metrics="face")
    for name, same in (("head", "right"), ("net@head", "right"), ("net@blocks/1", "wrong")):
        assert result.score(name, "face") == pytest.approx(wanted.score(same, "face"), rel=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_scores_as_its_array_does(dtype: str, tmp_path: Path) -> None:
    store = stored(tmp_path, dtype=dtype)["head"]
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    wanted = jaxte.rank({"net": Z.astype(kind)}, Y, metrics="face")
    for limit in (MUCH, LITTLE):
        agree(jaxte.rank({"net": store}, metrics="face", memory_limit=limit), wanted)


@pytest.mark.slow
def test_regression_targets_come_from_the_store(tmp_path: Path) -> None:
    with Writer(tmp_path, model={}, data={}, layers=["a"], shard_rows=25) as writer:
        for rows in np.split(np.arange(60), [20, 50]):
            writer.append({"a": Z[rows]}, X[rows, :2], examples=len(rows), digest="")
        store = writer.finish()
    wanted = jaxte.rank({"net": Z}, X[:, :2], metrics="logme")
    for limit in (MUCH, LITTLE):
        agree(jaxte.rank({"net": store}, metrics="logme", memory_limit=limit), wanted)


def test_a_damaged_store_stops_no_other(tmp_path: Path) -> None:
    stored(tmp_path)
    file = tmp_path / "labels" / "labels-000003.npy"
    file.write_bytes(file.read_bytes()[:-1])
    result = jaxte.rank({"net": tmp_path, "array": X}, Y, metrics="face")
    assert "labels-000003.npy is truncated" in result.status("net", "face")
    assert result.status("array", "face") == "ok"


def test_names_that_meet_are_refused(tmp_path: Path) -> None:
    store = stored(tmp_path)
    source: list[dict[str, Any]] = [{"net": store, "net@head": X}, {"net@head": X, "net": store}]
    for one in source:
        with pytest.raises(InputError, match="two models are called net@head"):
            jaxte.rank(one, Y)


def test_a_perturbation_needs_a_store_in_memory(tmp_path: Path) -> None:
    store = stored(tmp_path)["head"]
    source: dict[str, Any] = {"metrics": "face", "perturb": "spread"}
    agree(jaxte.rank({"net": store}, **source), jaxte.rank({"net": Z}, Y, **source))
    with pytest.raises(InputError, match="perturb needs all samples"):
        jaxte.rank({"net": store}, memory_limit=LITTLE, **source)
