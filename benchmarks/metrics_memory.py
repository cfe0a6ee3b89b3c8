"""Peak memory of one contestant of ``metrics``, alone in its process."""

from __future__ import annotations

from typing import Any

from benchmarks import contestants, memory, problems, rivals, timing


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Load or compile it, then watch one run."""
    import jax

    with jax.enable_x64(spec["dtype"] == "float64"):
        return _measure(spec)


def _measure(spec: dict[str, Any]) -> dict[str, Any]:
    import jax.numpy as jnp

    metric, name = spec["metric"], spec["name"]
    x, y = problems.of_metric(spec)
    own = {contestants.own_name(options): options for options in rivals.references(metric)}
    jaxs = name in own or name == contestants.GRAM
    if jaxs:
        device_x, device_y = jnp.asarray(x), jnp.asarray(y)
        if name in own:
            made = contestants.own(metric, own[name], device_x, device_y, spec["classes"])
        else:
            made = contestants.gram(device_x)
        run = made.run
    else:
        rival = next(r for r in rivals.of_metric(metric) if r.name == name)
        score = rivals.loaded(rival, spec["clones"])

        def run() -> float:
            return score(x, y)

    watch = memory.Watch()
    timing.once(run)
    return watch.read(with_device=jaxs)
