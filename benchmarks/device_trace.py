"""Where the time of a call goes: the profiler's events, summed by name."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.device_run import Row

_MOST = 30  # names of each plane that are kept


def traced(call: Callable[[], Any]) -> Iterator[Row]:
    """The names that take most of a call: of kernels and copies on the device, and on the host.

    Events on the host lie within each other, so that their seconds do not add up; those of the
    device do, but for streams that run side by side.
    """
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call()
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    for plane in data.planes:
        device = plane.name.startswith("/device:")
        if not device and plane.name != "/host:CPU":
            continue
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        spans: list[tuple[float, float]] = []
        for line in plane.lines:
            if device and not line.name.startswith("Stream"):
                continue  # the others say the same again, by module and operation
            for event in line.events:
                own = sums[event.name.split("(")[0][:70]]
                own[0] += event.duration_ns / 1e9
                own[1] += 1
                if device:
                    spans.append((event.start_ns, event.start_ns + event.duration_ns))
        where = "device" if device else "host"
        if spans:
            yield {"where": where, "name": "any at all", "seconds": _covered(spans) / 1e9}
        for name, (seconds, times) in sorted(sums.items(), key=lambda item: -item[1][0])[:_MOST]:
            yield {"where": where, "name": name, "seconds": seconds, "times": int(times)}


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union."""
    total, end = 0.0, float("-inf")
    for begin, stop in sorted(spans):
        total += max(0.0, stop - max(begin, end))
        end = max(end, stop)
    return total
