"""``device``: everything that is to be known of a card, in as many minutes as it is lent for.

    python -m benchmarks device --minutes 8 --out DIR

On whatever JAX computes on by default. First whether it is right, then how fast, most important
first. Every line of results is written as soon as it is there (DIR/device.jsonl) and the tables
after every step (DIR/device.md), so that a run which is cut off loses nothing; a step is not begun
with less time left than it takes. ``--zoo FOLDER``, the output folder of `jaxte zoo build --pool
benchmark` with its targets and weights, gives what is left in the end to fine-tuning that pool.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import device_report, device_right, device_speed, extraction, machine, timing
from benchmarks.device_run import FULL, LINES, QUICK, Row, Run, Step
from benchmarks.settings import say
from jaxte.errors import said

TABLES = "device.md"
_ENDING = 15.0  # seconds in which a subprocess and the tables end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all of it (8)")
    parser.add_argument("--out", metavar="DIR", required=True, help="where results go")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it all still run?")
    parser.add_argument("--zoo", metavar="DIR", help="of `jaxte zoo build --pool benchmark`")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="only these steps")


def run(arguments: argparse.Namespace) -> int:
    """Run the steps; 1 if one failed or is not right."""
    if shutil.which("nvidia-smi"):  # or a lent card's minutes go into the search for kernels
        os.environ.setdefault("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=false")
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LINES).unlink(missing_ok=True)
    one = Run(
        folder,
        arguments.quick,
        time.monotonic() + 60 * arguments.minutes,
        QUICK if arguments.quick else FULL,
        None if arguments.zoo is None else Path(arguments.zoo),
    )
    steps = [step for step in STEPS if not arguments.only or step.name in arguments.only]
    if arguments.only and len(steps) < len(set(arguments.only)):
        say(f"error: --only takes of {', '.join(step.name for step in STEPS)}")
        return 2
    for step in steps:
        if one.has(step.seconds):
            _take(one, step)
        else:
            one.write(step.name, {"skipped": f"{one.left:.0f} s left, it takes {step.seconds:g}"})
        (folder / TABLES).write_text(device_report.markdown(one.rows, STEPS), encoding="utf-8")
    say(f"written to {folder}")
    return int(any("failed" in row or row.get("wrong") for row in one.rows))


def _take(one: Run, step: Step) -> None:
    begun = time.monotonic()
    try:
        for row in step.rows(one):
            one.write(step.name, row)
    except Exception as error:  # the others go on
        missing = type(error).__name__ == "MissingError"
        one.write(step.name, {"skipped" if missing else "failed": said(error)})
    one.write(step.name, {"took": time.monotonic() - begun})


# --- steps that are of their own ------------------------------------------------------------------


def described(_: Run) -> Iterator[Row]:
    """The card, its memory and driver, and what it runs with."""
    import jax

    device = jax.devices()[0]
    here = machine.measure({"clones": {}})
    stats = device.memory_stats() or {}
    yield {
        **{k: here[k] for k in ("device", "platform", "devices", "cpu", "cores", "ram", "os")},
        **{k: here[k] for k in ("versions", "commit", "changed", "threads")},
        "memory": stats.get("bytes_limit"),
        "driver": _driver(),
        "backend": device.client.platform_version,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _driver() -> str | None:
    """What the maker's tool says of the driver."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def extracted(one: Run) -> Iterator[Row]:
    """Forward passes of networks of the zoo, with moments and into arrays, and in bfloat16."""
    n, batch, networks = one.sizes.images
    for family, width in networks:
        if not one.has(30):
            return
        spec = {"family": family, "width": width, "n": n, "batch": batch, "classes": 10}
        result = extraction.measure({**spec, "seed": 0, "repeats": 3, "patience": 5.0})
        yield from ({"skipped": line} for line in result.get("skipped", []))
        for row in result["rows"]:
            seconds = min(row["run"])
            name = {"name": row["name"], "dtype": "float32"}
            yield {**spec, **name, "seconds": seconds, "images": n / seconds}
        if result["rows"]:
            yield {**spec, **_in_bfloat16(one, family, width, n, batch)}


def _in_bfloat16(one: Run, family: str, width: int, n: int, batch: int) -> Row:
    """`jaxte.extract` with the network's arithmetic in bfloat16."""
    import numpy as np
    from flax import nnx

    import jaxte
    from jaxte.zoo.images import SIZE
    from jaxte.zoo.models import FAMILIES

    images = np.zeros((batch, SIZE, SIZE, 3), np.float32)
    labels = np.arange(batch, dtype=np.int32) % 10
    network = FAMILIES[family](width, nnx.Rngs(0))
    model = jaxte.extraction.as_model(network, layers="output", compute_dtype="bfloat16")
    batches = [(images, labels)] * max(1, n // batch)

    def call() -> Any:
        return np.asarray(jaxte.extract(model, batches))

    call()
    seconds = min(timing.once(call)[0] for _ in range(one.sizes.repeats))
    return {"name": "jaxte.extract", "dtype": "bfloat16", "seconds": seconds, "images": n / seconds}


def tuned(one: Run) -> Iterator[Row]:
    """Fine-tuning of the zoo's benchmark pool in a process of its own, as long as there is time.

    It goes on from the accuracies that ship; what is new lies in the folder of the results.
    """
    if one.zoo is None:
        yield {"skipped": "no --zoo FOLDER with the targets and weights of the benchmark pool"}
        return
    from jaxte.zoo.benchmark import records

    results = one.folder / "accuracies.jsonl"
    if not results.exists():
        shutil.copyfile(records.SHIPPED, results)
    before = len(results.read_text().splitlines())
    command = [sys.executable, "-m", "jaxte", "zoo", "build", "--pool", "benchmark"]
    command += ["--out", str(one.zoo), "--resume", str(results), "--stages", "accuracies"]
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONPATH": str(machine.ROOT)}
    log = one.folder / "zoo.log"
    with log.open("w") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **shared})
        try:
            child.wait(timeout=max(5.0, one.left - _ENDING))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
    pairs = len(results.read_text().splitlines()) - before
    said = log.read_text().splitlines() or ["nothing said"]
    yield {"pairs": pairs, "status": child.returncode, "said": said[-1]}


_ORDER = (  # most important first
    "machine", "goal metrics", "ceilings", "metrics of the goal", "pool of the goal", "profile",
    "torch", "golden", "properties", "solvers", "pools", "all metrics", "other metrics", "growth",
    "extraction", "fine-tuning",
)  # fmt: skip
_STEPS = (
    Step("machine", 5, described, "the card and what it runs with"),
    *device_right.STEPS,
    *device_speed.STEPS,
    Step("extraction", 45, extracted, "forward passes of networks of the zoo"),
    Step("fine-tuning", 45, tuned, "the zoo's benchmark pool, with the time left"),
)
STEPS: tuple[Step, ...] = tuple(sorted(_STEPS, key=lambda step: _ORDER.index(step.name)))
