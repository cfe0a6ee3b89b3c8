"""A pool on an accelerator, which a CPU stands for: the same scores, and how models get there."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import blobs, counted_compilations

import jaxte
from jaxte.intake.arrays import as_features
from jaxte.ranking import buckets, memory, pool, stacking
from jaxte.runtime import devices

X, Y = blobs(40, 24)
WIDTHS = (24, 20, 22, 6, 24)
METRICS = ("logme", "face", "leep")


def models(*types: Any) -> dict[str, Any]:
    return {
        f"m{i}": {"features": X[:, :d].astype(types[i % len(types)]), "logits": X[:, :5]}
        for i, d in enumerate(WIDTHS)
    }


def scores(ranking: jaxte.Ranking) -> list[float]:
    return [ranking.score(model, m) for m in ranking.metrics for model in ranking.models]


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "platform_of", lambda *_, **__: "gpu")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[np.dtype[Any]]]:
    """Types of the matrices that are put on the device, as they are asked for."""
    types: list[np.dtype[Any]] = []
    put = jax.device_put

    def counted(x: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(x, np.ndarray) and x.shape in {(40, d) for d in WIDTHS}:
            types.append(x.dtype)
        return put(x, *rest, **options)

    monkeypatch.setattr(jax, "device_put", counted)
    return iter([types])


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("types", [("float16",), ("float32", "float64"), ("int8", "float32")])
def test_models_travel_once_in_their_own_type(
    types: tuple[str, ...],
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    sent: Iterator[list[np.dtype[Any]]],
) -> None:
    source = models(*types)
    expected = scores(jaxte.rank(source, Y, metrics=METRICS, precision=precision))
    there = next(sent)
    there.clear()
    monkeypatch.setattr(pool, "platform_of", lambda *_, **__: "gpu")
    limit = 3 * 6 * 40 * (24 + 5) * 8  # three models, so slices of one
    for memory_limit in (None, limit):
        there.clear()
        result = jaxte.rank(
            source, Y, metrics=METRICS, precision=precision, memory_limit=memory_limit
        )
        assert sorted(map(str, there)) == sorted(types[i % len(types)] for i in range(5))
        np.testing.assert_allclose(
            scores(result), expected, 1e-10 if precision == "float64" else 2e-3
        )


def test_all_that_has_room_is_begun_before_the_first_is_waited_for(
    accelerator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def watch(name: str) -> None:
        step = getattr(pool, name)

        def watched(*source: Any, **options: Any) -> Any:
            steps.append(name)
            return step(*source, **options)

        monkeypatch.setattr(pool, name, watched)

    watch("_begin")
    watch("_finish")
    monkeypatch.setattr(buckets, "_COMPILATION", 0)
    source = {name: one["features"] for name, one in models(float).items()}
    jaxte.rank(source, Y, metrics="face")
    assert steps == ["_begin"] * 2 + ["_finish"] * 2  # widths of 6, and of 20 to 24
    steps.clear()
    with jax.enable_x64(True):
        one = buckets.bytes_of(buckets.Bucket(40, 24, ()), "gpu")
    jaxte.rank(source, Y, metrics="face", precision="float64", memory_limit=3 * one)
    assert steps[:4] == ["_begin"] * 3 + ["_finish"]
    assert steps.count("_begin") == 5
    # and one that is larger than all the room there is runs alone
    steps.clear()
    jaxte.rank(source, Y, metrics="face", precision="float64", memory_limit=40 * 24 * 8)
    assert steps == ["_begin", "_finish"] * 5


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_what_is_compiled_ahead_is_what_runs(accelerator: None, precision: str) -> None:
    """Nothing is compiled twice, for other types or shapes."""
    source = {name: one["features"] for name, one in models("float16", "float64").items()}
    jaxte.rank(source, Y, metrics="face", precision=precision)
    # the features, their moments, and the score, of one bucket
    assert jaxte.runtime.programs.compiled_programs() == 3
    with counted_compilations() as names:
        jaxte.rank(source, Y, metrics="face", precision=precision)
    assert names == []


def test_features_on_the_device_never_come_back(
    accelerator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {name: one["features"] for name, one in models("float32").items()}
    expected = jaxte.rank(source, Y, metrics=["logme", "face"])
    for module in (pool, stacking, devices):
        monkeypatch.setattr(module, "is_placed", lambda x: isinstance(x, jax.Array))
    copied: list[int] = []
    plain = np.asarray

    def counted(array: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(array, jax.Array):
            copied.append(array.size)
        return plain(array, *rest, **options)

    monkeypatch.setattr(np, "asarray", counted)
    there = {name: jnp.asarray(x) for name, x in source.items()}
    result = jaxte.rank(there, Y, metrics=["logme", "face"])
    assert 0 < max(copied) <= len(Y)
    np.testing.assert_allclose(scores(result), scores(expected), 1e-10)


# --- how much has room ----------------------------------------------------------------------------


def device(platform: str, stats: Any) -> Any:
    return SimpleNamespace(platform=platform, memory_stats=lambda: stats)


GIB = 1 << 30
CARD = device("gpu", {"bytes_limit": 60 * GIB, "bytes_in_use": 10 * GIB})


def test_slices_fill_an_accelerator() -> None:
    assert memory.limits_of(None, CARD) == (40 * GIB, 40 * GIB // 6, GIB)
    assert memory.limits_of(None, CARD, 4).slices == 160 * GIB
    assert memory.limits_of(5, CARD) == (5, 5, 5)


@pytest.mark.parametrize("stats", [None, {}, {"bytes_limit": GIB, "bytes_in_use": GIB}])
def test_where_nothing_is_known_of_its_memory(stats: Any) -> None:
    assert memory.limits_of(None, device("gpu", stats)) == (GIB, GIB, GIB)
    assert memory.limits_of(None, device("cpu", {"bytes_limit": 99 * GIB})) == (GIB, GIB, GIB)


def test_processes_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert memory.limits_of(None, CARD, 4) == (GIB, GIB, GIB)


# --- tensors of other libraries -------------------------------------------------------------------


class Tensor:
    """Of a library that has arrays on GPUs."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.steps: list[str] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("jnp.from_dlpack is stood in for")

    def detach(self) -> Any:
        self.steps.append("detach")
        return self

    def contiguous(self) -> Any:
        self.steps.append("contiguous")
        return self

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.steps.append("host")
        return X


@pytest.mark.parametrize(
    ("kind", "gpus", "steps"),
    [
        (2, ["gpu"], ["detach", "contiguous"]),
        (10, ["gpu"], ["detach", "contiguous"]),
        (1, ["gpu"], ["host"]),  # it lies on the host
        (2, [], ["host"]),  # JAX computes elsewhere
    ],
)
def test_tensors_on_the_same_gpu_are_not_copied(
    kind: int, gpus: list[str], steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "devices", lambda _: gpus)
    monkeypatch.setattr(jnp, "from_dlpack", lambda _: jnp.asarray(X))
    tensor = Tensor(kind)
    result = as_features(tensor)
    assert tensor.steps == steps
    assert isinstance(result, jax.Array) == (steps[-1] != "host")
