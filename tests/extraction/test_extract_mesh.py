"""extract(mesh=...): batches shared between devices give the features of one device."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORKER = Path(__file__).with_name("devices_worker.py")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What a process with 4 devices finds; it can have them only before JAX starts."""
    out = tmp_path_factory.mktemp("mesh")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(WORKER), str(out)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(out / "found.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("mesh", ["samples", "both", "auto"])
def test_devices_that_share_a_batch_find_the_same(result: Mapping[str, Any], mesh: str) -> None:
    for what in ("conv", "penultimate", "logits", "labels", "pixels", "classes"):
        one = result[f"none {what}"]
        assert len(one) >= 50
        np.testing.assert_allclose(result[f"{mesh} {what}"], one, 1e-5, 1e-6, err_msg=what)


def test_a_run_may_go_on_over_other_devices(result: Mapping[str, Any]) -> None:
    np.testing.assert_allclose(result["resumed"], result["none penultimate"], 1e-5, 1e-6)


def test_models_outside_jax_take_no_mesh(result: Mapping[str, Any]) -> None:
    assert str(result["untraced"]).startswith("outside is no model that JAX traces: leave out mesh")
