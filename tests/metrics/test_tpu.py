"""Every metric compiles for a TPU, ahead of time and without one, where libtpu is installed."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxte.metrics import REGISTRY


@pytest.mark.slow
@pytest.mark.skipif(find_spec("libtpu") is None, reason="pip install libtpu, which has no device")
def test_every_metric_compiles_for_a_tpu() -> None:
    described = {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("tpu_worker.py")],
        env={**os.environ, **described},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.endswith("compiles")] == []
    assert len(lines) > 0.9 * len(REGISTRY)
