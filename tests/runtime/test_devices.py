"""The device that computes decides on precision and routes; cores are those that may be used."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte.ranking import blocks, inputs, pool
from jaxte.runtime import devices, threads
from jaxte.runtime.devices import device_of, has_fast_float64, is_placed, platform_of
from jaxte.runtime.precision import precision_context
from jaxte.runtime.threads import Threads, cores

Y = np.arange(40) % 4
X = np.random.default_rng(0).normal(size=(40, 6)) + np.eye(4, 6)[Y]


def device(platform: str, kind: str = "") -> Any:
    return SimpleNamespace(platform=platform, device_kind=kind, id=0)


@pytest.mark.parametrize(
    "kind",
    [
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "A100-PCIE-40GB",
        "NVIDIA A100X",
        "NVIDIA A30",
        "NVIDIA H100 80GB HBM3",
        "NVIDIA H200",
        "NVIDIA GH200 480GB",
        "NVIDIA B200",
        "NVIDIA GB200",
        "Tesla V100-SXM2-16GB",
        "Tesla P100-PCIE-16GB",
        "Quadro GV100",
        "AMD Instinct MI250X",
        "AMD Instinct MI300X",
    ],
)
def test_gpus_made_for_float64(kind: str) -> None:
    assert has_fast_float64(device("gpu", kind))


@pytest.mark.parametrize(
    "kind",
    [
        "NVIDIA RTX A1000 Laptop GPU",
        "NVIDIA RTX A3000 Laptop GPU",
        "NVIDIA RTX A2000",
        "NVIDIA RTX PRO 1000 Blackwell",
        "NVIDIA GeForce RTX 4090",
        "NVIDIA A10G",
        "NVIDIA A40",
        "NVIDIA L4",
        "NVIDIA H20",
        "NVIDIA B300",
        "Quadro P1000",
        "Tesla T4",
        "AMD Radeon RX 7900 XTX",
        "",
    ],
)
def test_gpus_that_are_not(kind: str) -> None:
    assert not has_fast_float64(device("gpu", kind))


def test_other_devices() -> None:
    assert has_fast_float64(device("cpu", "cpu"))
    assert not has_fast_float64(device("tpu", "TPU v4"))


@pytest.mark.parametrize(
    ("kind", "precision", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "auto", jnp.float64),
        ("NVIDIA RTX A1000", "auto", jnp.float32),
        ("NVIDIA RTX A1000", "float64", jnp.float64),
        ("NVIDIA A100-SXM4-80GB", "float32", jnp.float32),
    ],
)
def test_precision_of_a_device(kind: str, precision: str, expected: Any) -> None:
    with precision_context(precision, device("gpu", kind)):
        assert jnp.zeros(()).dtype == expected


@pytest.fixture
def gpu_first(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine whose first device is a slow GPU, beside its CPU."""
    gpu, local = device("gpu", "NVIDIA RTX A1000"), jax.local_devices

    def devices(*_: Any, backend: str | None = None, **__: Any) -> list[Any]:
        return [gpu] if backend in (None, "gpu") else local(backend=backend)

    monkeypatch.setattr(jax, "local_devices", devices)
    monkeypatch.setattr(jax, "devices", lambda *_: [gpu])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return gpu


def test_it_is_the_mesh_then_the_arrays_then_the_default(gpu_first: Any) -> None:
    cpu = jax.local_devices(backend="cpu")[0]
    mesh = jax.sharding.Mesh(np.array([cpu]), ("samples",))
    assert device_of() is gpu_first
    assert device_of(X, jnp.asarray(X)) is gpu_first
    assert device_of(mesh=mesh) is cpu
    for default in (cpu, "cpu"):
        with jax.default_device(default):
            assert device_of() is cpu
            assert platform_of(X) == "cpu"


def test_arrays_on_an_accelerator_are_computed_with_there(
    gpu_first: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = device("gpu", "NVIDIA A100-SXM4-80GB")
    array = jax.device_put(X, jax.local_devices(backend="cpu")[0])
    assert not is_placed(array)
    lies = SimpleNamespace(sharding=SimpleNamespace(device_set=[other]))
    monkeypatch.setattr(devices, "is_placed", lambda source: source is lies)
    assert device_of(X, lies) is other


@pytest.mark.parametrize("how", ["default", "mesh"])
def test_rank_asks_the_device_that_computes(how: str, gpu_first: Any) -> None:
    """Not the first one, on which nothing runs here: a route for it would fail."""
    cpu = jax.local_devices(backend="cpu")[0]
    options: dict[str, Any] = {}
    if how == "mesh":
        options["mesh"] = jax.sharding.Mesh(np.array([cpu]), ("samples",))
    with jax.default_device(cpu):
        result = jaxte.rank({"m": X, "n": X[:, :4]}, Y, **options)
    assert result.meta["precision"] == "float64"
    assert result.meta["device"] == cpu.device_kind
    assert result.order("logme") == ["m", "n"]


@pytest.mark.parametrize(("platform", "apart"), [("cpu", True), ("gpu", False)])
def test_routes_go_by_the_device(
    platform: str, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models side by side, slices and small blocks are for CPUs."""
    for module in (blocks, inputs, pool):
        monkeypatch.setattr(module, "platform_of", lambda *_, **__: platform)
    taken = []

    def watch(name: str) -> None:
        route = getattr(pool, name)

        def taking(*source: Any) -> Any:
            taken.append(name)
            return route(*source)

        monkeypatch.setattr(pool, name, taking)

    watch("_score_side_by_side")
    watch("_score_stacked")
    jaxte.rank({"m": X, "n": X[:, :4]}, Y, metrics="face")
    assert ("_score_side_by_side" in taken) == apart
    with jax.enable_x64(True):
        assert inputs.should_stream(10**6, 4, 1 << 40) == apart


def test_models_of_an_accelerator_are_stacked_and_score_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {"m": X, "n": X[:, :4], "o": X[:, :5]}
    expected = jaxte.rank(models, Y)
    monkeypatch.setattr(pool, "platform_of", lambda *_, **__: "gpu")
    result = jaxte.rank(models, Y)
    for metric in expected.metrics:
        for name in models:
            assert result.score(name, metric) == pytest.approx(expected.score(name, metric))


# --- cores ----------------------------------------------------------------------------------------


V1 = "3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n0::/\n"


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, np.inf),
        ("0::/\n", {}, np.inf),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "50000 100000\n"}, 0.5),
        # in a container of its own: the path is the host's, the files lie at the root
        ("0::/docker/abc\n", {"cpu.max": "300000 100000\n"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5),
        (
            V1,
            {
                "cpu/docker/abc/cpu.cfs_quota_us": "100000\n",
                "cpu/docker/abc/cpu.cfs_period_us": "50000\n",
            },
            2,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, np.inf),
    ],
)
def test_the_quota_of_a_container(
    lines: str, files: dict[str, str], expected: float, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / "limits" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "limits" / name).write_text(text)
    (tmp_path / "cgroup").write_text(lines)
    assert threads._quota(tmp_path / "cgroup", tmp_path / "limits") == expected


def test_where_there_are_no_control_groups(tmp_path: Path) -> None:
    assert threads._quota(tmp_path / "none", tmp_path) == np.inf


@pytest.mark.parametrize(
    ("machine", "affinity", "quota", "expected"),
    [
        (8, {0, 1, 2}, np.inf, 3),
        (8, set(range(8)), 1.5, 2),
        (8, set(range(8)), 0.2, 1),
        (2, set(range(8)), 64.0, 2),
        (None, set(range(8)), np.inf, 1),
    ],
)
def test_cores_are_those_that_may_be_used(
    machine: int | None,
    affinity: set[int],
    quota: float,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity, raising=False)
    monkeypatch.setattr(threads, "_quota", lambda *_: quota)
    assert cores() == expected


def test_python_may_be_told_how_many_cores_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 1, raising=False)
    assert cores() == 1


def test_a_pool_takes_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    class Counted(Threads):
        def __init__(self, count: int) -> None:
            counts.append(count)
            super().__init__(count)

    monkeypatch.setattr(pool, "Threads", Counted)
    monkeypatch.setattr(pool, "cores", lambda: 3)
    jaxte.rank({f"{d}": X[:, :d] for d in (2, 3, 4, 5, 6)}, Y, metrics="face")
    assert counts == [3, 3]
