"""`jaxte rank --devices` and `--processes`: the work of one command on many devices or machines.

Without a coordinator the command starts all processes itself, on this machine, and only waits for
them; with one it is process number I of a ranking that the others started elsewhere.

Processes that the command has started end with it, even if it is killed: each reads from a pipe
that the command holds open and never writes to, so that the end of the pipe is the command's own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from jaxte.cli import _cache
from jaxte.cli._errors import check_counts, system_message, warn
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import jax
    import numpy as np

    from jaxte.ranking import Ranking
    from jaxte.store import FeatureSet

__all__ = ["Processes", "checked", "joined", "mesh", "quiet", "run_all", "share"]
__all__ += ["warn_of_failures"]

_STARTED = "JAXTE_STARTED_BY"  # set in the processes that `run_all` starts
_FLAGS = {None: (), True: ("--cache",), False: ("--no-cache",)}
_PATIENCE = 5.0  # seconds in which processes may end by themselves after one has failed


class Processes(NamedTuple):
    """How many take part, and who this is.

    Attributes:
        devices: of each process; None for all that it has.
        processes: N; 1 for this one alone.
        coordinator: HOST:PORT of process 0, None where this command starts them all.
        number: of this process, 0..N-1.
    """

    devices: int | None
    processes: int
    coordinator: str | None
    number: int

    @property
    def starts_all(self) -> bool:
        """Whether this command only starts the others."""
        return self.processes > 1 and self.coordinator is None

    @property
    def shares(self) -> bool:
        """Whether there is a mesh at all."""
        return self.processes > 1 or self.devices is not None

    @property
    def is_primary(self) -> bool:
        """Whether this process shows the results."""
        return self.number == 0


def checked(
    devices: int | None,
    processes: int | None = None,
    coordinator: str | None = None,
    index: int | None = None,
    perturb: str | None = None,
) -> Processes:
    """The processes that the options describe, or an `InputError` that says which is missing."""
    check_counts(devices=devices, processes=processes)
    if (coordinator is None) != (index is None):
        raise InputError(
            "--coordinator HOST:PORT and --process-id I belong together: leave both out to start "
            "all processes on this machine"
        )
    if coordinator is not None and processes is None:
        raise InputError("--coordinator needs --processes N, how many there are in all")
    count = processes or 1
    if index is not None and not 0 <= index < count:
        raise InputError(f"--process-id {index} is outside 0..{count - 1}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator {coordinator}: write HOST:PORT, as 10.0.0.1:1234")
    if perturb is not None and (count > 1 or devices is not None):
        raise InputError("--perturb needs all rows of a model on one device: leave --devices out")
    return Processes(devices, count, coordinator, index or 0)


def run_all(group: Processes, directory: str, **options: Any) -> None:
    """Start all processes here and wait; one that fails ends the others, and the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [sys.executable, "-m", "jaxte", *_FLAGS[_cache.choice()], "rank", directory]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            flag = f"--{name}"
            arguments += [] if one is None else [flag if one is True else f"{flag}={one}"]
    arguments += ["--coordinator", address, "--processes", str(group.processes), "--process-id"]
    children: list[subprocess.Popen[bytes]] = []
    with _terminable(), tempfile.TemporaryDirectory() as folder:
        logs = [os.path.join(folder, str(index)) for index in range(group.processes)]
        try:
            for index, path in enumerate(logs):
                with open(path, "wb") as log:
                    children.append(
                        subprocess.Popen(
                            [*arguments, str(index)],
                            stderr=log,
                            stdin=subprocess.PIPE,
                            env=os.environ | {_STARTED: str(os.getpid())},
                        )
                    )
            failed = _wait(children)
        finally:
            for child in children:
                child.kill()
            for child in children:
                child.communicate()
        texts = [Path(path).read_text(encoding="utf-8", errors="replace") for path in logs]
    _relay(texts, failed)
    if failed is not None:
        raise typer.Exit(2)


@contextmanager
def _terminable() -> Iterator[None]:
    """A polite signal to end becomes an exit that tidies up, as Ctrl-C does anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), leave) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _end_with_parent() -> None:
    """End this process when the one that has started it is no more."""

    def wait() -> None:
        with suppress(OSError, ValueError):
            while os.read(0, 1024):
                pass
        os._exit(2)

    threading.Thread(target=wait, name="jaxte-parent", daemon=True).start()


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The process that failed first, once all have ended or had time to; None if none did."""
    failed, since = None, 0.0
    while True:
        states = [child.poll() for child in children]
        if failed is None and any(states):
            failed = next(index for index, state in enumerate(states) if state)
            since = time.monotonic()
        if None not in states or (failed is not None and time.monotonic() - since > _PATIENCE):
            return failed
        time.sleep(0.05)


def _relay(texts: Sequence[str], failed: int | None) -> None:
    """What the processes had to say to people, each line once; the libraries' chatter is left."""
    said = [line for text in texts for line in text.splitlines() if line.startswith("jaxte: ")]
    if failed is not None and not said:
        said = [f"jaxte: process {failed} failed", *texts[failed].splitlines()[-20:]]
    for line in dict.fromkeys(said):
        typer.echo(line, err=True)


@contextmanager
def joined(group: Processes) -> Iterator[None]:
    """Devices of this process, and the others, for as long as the work goes on."""
    if group.coordinator is not None and _STARTED in os.environ:
        _end_with_parent()
    import jax

    if group.devices is not None and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        with suppress(RuntimeError):  # JAX has started, in a notebook or a test
            jax.config.update("jax_num_cpu_devices", group.devices)  # of no meaning to a GPU
    if group.coordinator is None:
        yield
        return
    local = [group.number] if _STARTED in os.environ else None  # a GPU each, where there are some
    try:
        with quiet(group):
            jax.distributed.initialize(
                group.coordinator, group.processes, group.number, local_device_ids=local
            )
        yield
        sys.stdout.flush()
        jax.distributed.shutdown()
    except (InputError, OSError, RuntimeError) as error:
        # an ordinary exit would wait for the others, who may be waiting for this one
        warn(system_message(error) if isinstance(error, OSError) else str(error))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)


def warn_of_failures(ranking: Ranking, group: Processes) -> None:
    """Models that failed on the rows of this process, as the others do not have the reason."""
    for model in ranking.models:
        reasons = {ranking.status(model, metric) for metric in ranking.metrics} - {"ok"}
        for reason in reasons:
            if "see its own ranking" not in reason:
                warn(f"{model}: in the rows of process {group.number}, {reason}")


@contextmanager
def quiet(group: Processes) -> Iterator[None]:
    """What libraries write to standard output (Gloo its connections) goes to standard error."""
    if group.coordinator is None:
        yield
        return
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def mesh(group: Processes) -> jax.sharding.Mesh | None:
    """All devices of all processes in a row, to share the samples; None where nothing is shared."""
    import jax
    import numpy as np

    from jaxte.runtime.devices import platform_of

    if not group.shares:
        return None
    platform = platform_of()
    here, number = jax.local_device_count(platform), group.devices
    if number is not None and here < number:
        raise InputError(f"--devices {number}: there are {here} ({platform}) here")
    devices = jax.devices(platform)
    rows = [[d for d in devices if d.process_index == p] for p in range(group.processes)]
    chosen = [device for row in rows for device in row[:number]]
    return jax.sharding.Mesh(np.array(chosen), ("samples",))


def share(files: FeatureSet, group: Processes, *, outputs: bool = False) -> FeatureSet:
    """The rows of every model that are this process's own, in memory; others are not read.

    ``outputs``: with those of the models' own heads, where there are any.
    """
    from jaxte.intake.sources import Source

    if not group.shares:
        return files
    features: dict[str, Any] = {}
    labels = {}
    for name, own in files.features.items():
        y = files.labels.get(name)
        rows = len(y) if y is not None else _rows_of(own)
        start, stop = (rows * (group.number + end) // group.processes for end in (0, 1))
        if y is not None:
            labels[name] = y[start:stop]
        try:
            features[name] = _between(own, start, stop)
            head = own.logits() if outputs and isinstance(own, Source) else None
            if head is not None:
                features[name] = {"features": features[name], "logits": head[start:stop]}
        except InputError as error:  # `rank` gives it to this model alone
            features[name] = error
    return files._replace(features=features, labels=labels)


def _rows_of(features: Any) -> int:
    """How many rows there are."""
    from jaxte.intake.sources import Source

    if not isinstance(features, Source):
        return len(features)
    return features.rows or sum(map(len, features.parts()))


def _between(features: Any, start: int, stop: int) -> np.ndarray:
    """Rows from start to stop, in memory."""
    import numpy as np

    from jaxte.intake.sources import Source

    pieces, begin = [], 0
    source = features if isinstance(features, Source) else None
    for index, part in enumerate([features] if source is None else source.parts()):
        end = begin + len(part)
        if begin < stop and end > start:
            if source is not None:
                source.check(index)
            pieces.append(part[max(start - begin, 0) : stop - begin])
        begin = end
    return np.concatenate(pieces) if pieces else np.zeros((0, 1))
