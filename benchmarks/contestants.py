"""jaxte's own metrics, compiled ahead, and the product that bounds them all from below."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

GRAM = "Gram product X'X"


class Compiled(NamedTuple):
    """A compiled call on fixed arguments and what it took to get there."""

    run: Callable[[], Any]
    trace: float
    compile: float


def ahead(function: Callable[..., Any], *arguments: Any) -> Compiled:
    """Trace and compile a function for its arguments, each timed."""
    import jax

    jitted = jax.jit(function)
    begun = time.perf_counter()
    lowered = jitted.lower(*arguments)
    traced = time.perf_counter()
    executable = lowered.compile()
    done = time.perf_counter()
    return Compiled(lambda: executable(*arguments), traced - begun, done - traced)


def own(metric: str, options: Mapping[str, Any], x: Any, y: Any, classes: int) -> Compiled:
    """One of jaxte's metrics; its caches are emptied first, so that compiling costs its price."""
    import jax

    from jaxte.metrics import get_metric

    jax.clear_caches()
    function = partial(get_metric(metric).function, num_classes=classes, **options)
    return ahead(function, x, y)


def gram(x: Any) -> Compiled:
    """X'X whole, in full precision: what LogME and SFDA need first of all (FaCe does not)."""
    import jax
    import jax.numpy as jnp

    return ahead(lambda a: jnp.matmul(a.T, a, precision=jax.lax.Precision.HIGHEST), x)


def own_name(options: Mapping[str, Any]) -> str:
    """As in the tables."""
    said = [v if isinstance(v, str) else f"{k} = {v}" for k, v in options.items()]
    return ", ".join(["jaxte", *said])
