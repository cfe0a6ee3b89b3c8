"""Measurements in fresh processes: ``python -m benchmarks.child FILE`` reads a job from stdin.

The parent never starts JAX itself: on a GPU it would hold the memory, on a CPU its own size would
show in the peak of its children.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT

_JOBS = {
    "machine": "benchmarks.machine",
    "metric": "benchmarks.metrics",
    "memory": "benchmarks.metrics_memory",
    "pool": "benchmarks.pool_job",
    "growth": "benchmarks.growth_job",
    "extraction": "benchmarks.extraction",
    "disk": "benchmarks.disk",
    "together": "benchmarks.together",
    "grid": "benchmarks.grid",
}


_THREADS = (
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
)


class FailedError(Exception):
    """A child ended without a result; the message is the end of what it said."""


def run(job: str, spec: Mapping[str, Any], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a job in a fresh interpreter and return its result.

    Raises:
        FailedError: if it ended without one.
    """
    surroundings = {**os.environ, **(env or {})}
    # an allocator that takes most of a GPU at once leaves nothing to see in its peak
    surroundings.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # an installed package has its bytecode, and compiling sources is no part of a cold start
    surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
    if spec.get("threads"):
        surroundings.update(dict.fromkeys(_THREADS, str(spec["threads"])))
    surroundings["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *filter(None, [surroundings.get("PYTHONPATH")])]
    )
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        message = json.dumps({"job": job, "launched": time.time(), "spec": spec})
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.child", str(answer)],
            input=message,
            capture_output=True,
            text=True,
            env=surroundings,
            check=False,
        )
        if done.returncode or not answer.is_file():
            # -9 without a message: out of memory as a rule
            said = _reason(done.stderr)
            raise FailedError(f"{job} ended with status {done.returncode}: {said}")
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return result


def _reason(said: str) -> str:
    """The exception at the end of a traceback; JAX writes more lines after it."""
    lines = said.strip().splitlines() or ["no message"]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return (raised or lines)[-1]


def main() -> int:
    """Do one job."""
    message = json.loads(sys.stdin.read())
    spec = {**message["spec"], "launched": message["launched"]}
    if spec.get("threads") and hasattr(os, "sched_setaffinity"):
        # XLA takes as many threads as it has cores, and has no other setting for it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["threads"]])
    module = importlib.import_module(_JOBS[message["job"]])
    answer = json.dumps(module.measure(spec))
    Path(sys.argv[1]).write_text(answer, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
