"""rank(mesh=...): the ranking of one device, from several devices and several processes."""

import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import mesh_worker
import numpy as np
import pytest

import jaxte
from jaxte import InputError

WORKER = Path(__file__).parent / "mesh_worker.py"


def start(*arguments: str, devices: int) -> subprocess.Popen[str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags,
    }
    return subprocess.Popen(
        [sys.executable, str(WORKER), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def results(*workers: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What each printed last; none outlives the test."""
    try:
        actual = []
        for worker in workers:
            out, err = worker.communicate(timeout=240)
            assert worker.returncode == 0, err
            actual.append(json.loads(out.splitlines()[-1]))
        return actual
    finally:
        for worker in workers:
            worker.kill()


def assert_equal(
    actual: dict[str, Any], expected: jaxte.Ranking, rtol: float, *metrics: str
) -> None:
    """By these metrics, or by all of the expected ranking."""
    for key, (score, status) in mesh_worker.told(expected).items():
        if metrics and key.split()[1] not in metrics:
            continue
        got, told = actual[key]
        assert told == status, key
        np.testing.assert_allclose(got, score, rtol=rtol, err_msg=key)


@pytest.fixture(scope="module")
def on_devices() -> dict[str, Any]:
    return results(start(devices=4))[0]


@cache
def on_one_device(case: str) -> jaxte.Ranking:
    return jaxte.rank(**next(source for name, _, source in mesh_worker.cases() if name == case))


@pytest.mark.parametrize("case", [name for name, _, _ in mesh_worker.cases()])
def test_devices_agree_with_one(case: str, on_devices: dict[str, Any]) -> None:
    actual = on_devices[case]
    assert actual["devices"] == 4
    expected = on_one_device("samples" if case in ("models", "both") else case)
    metrics = next(source["metrics"] for name, _, source in mesh_worker.cases() if name == case)
    metrics = (metrics,) if isinstance(metrics, str) else metrics
    assert_equal(actual, expected, 1e-3 if case == "single" else 1e-10, *metrics)


def test_a_model_with_holes_does_not_stop_the_others(on_devices: dict[str, Any]) -> None:
    actual = on_devices["broken"]
    assert actual["broad sfda"][1] == actual["narrow sfda"][1] == "ok"
    assert "first in row 7" in actual["holed sfda"][1]
    assert np.isnan(actual["holed sfda"][0]).all()


def test_perturbed_models_may_be_spread_but_not_their_samples(on_devices: dict[str, Any]) -> None:
    arguments = next(mesh_worker.cases())[2] | {"metrics": "face", "perturb": "spread"}
    assert_equal(on_devices["perturbed models"], jaxte.rank(**arguments), 1e-10)
    assert "all rows of a model on one device" in on_devices["perturbed"]


def test_features_on_the_devices_stay_there(on_devices: dict[str, Any]) -> None:
    assert_equal(on_devices["placed"], on_one_device("samples"), 1e-10, "face")
    assert 0 < max(on_devices["copied"]) <= mesh_worker.N


def test_a_mesh_that_will_not_do(on_devices: dict[str, Any]) -> None:
    assert "mesh is a int, not a jax.sharding.Mesh" in on_devices["no mesh"]
    assert "axis 'rows'" in on_devices["other axis"]
    with pytest.raises(InputError, match="samples"):
        jaxte.rank(**next(mesh_worker.cases())[2], mesh=mesh_worker.mesh_of({"batch": 1}))


def test_one_device_is_a_mesh_too() -> None:
    arguments = next(mesh_worker.cases())[2] | {"metrics": "logme"}
    actual = jaxte.rank(**arguments, mesh=mesh_worker.mesh_of({"samples": 1}))
    assert_equal(mesh_worker.told(actual), jaxte.rank(**arguments), 1e-10)


def test_two_processes_with_rows_of_their_own() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    first, second = results(*(start(str(i), address, devices=2) for i in range(2)))
    assert first["whole"] == second["whole"]
    assert_equal(first["whole"], on_one_device("samples"), 1e-10, "logme", "sfda")
    assert first["texts"] == second["texts"]
    assert_equal(first["texts"], on_one_device("samples"), 1e-10, "logme", "sfda")
    # a model that the second process cannot score
    assert "process 1 cannot score it" in first["broken"]["middle logme"][1]
    assert "NaN" in second["broken"]["middle logme"][1]
    for name in ("narrow", "broad", "wide"):
        assert first["broken"][f"{name} sfda"] == first["whole"][f"{name} sfda"]
    assert "different models" in first["names"]
    assert "different models" in second["names"]
    assert "permutations need all rows of a model in one process" in first["permutations"]
