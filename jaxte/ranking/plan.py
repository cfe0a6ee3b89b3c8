"""The compiled function of a pool: all metrics of one model, or of several, from one look."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxte.metrics import Metric
from jaxte.metrics._look import Look
from jaxte.perturb.transform import moved_features
from jaxte.runtime.mesh import MODELS, SAMPLES, Layout
from jaxte.runtime.programs import HASTY, LEAN, Program

__all__ = ["Form", "Task"]


class Form(NamedTuple):
    """What a program is given, and how it is to be made.

    Attributes:
        quick: whether metrics may leave a part of their work, or an answer, to others.
        several: models at once, stacked.
        one_target: whether they share their targets.
        one_weight: whether they share their weights, or have none.
        hasty: whether compiling it with care would take longer than running it.
        platform: of the devices that run it.
    """

    quick: bool
    several: bool = False
    one_target: bool = True
    one_weight: bool = True
    hasty: bool = False
    platform: str = "cpu"


_lock = threading.RLock()  # threads must not make two programs of one task, to be compiled twice


@dataclass(frozen=True)
class Task:
    """What is computed of every model of a pool.

    Attributes:
        metrics: all are made from one look at the features.
        options: metric name -> its own options.
        num_classes: C; None for regression.
        perturb: perturbs the features first, or None.
        layout: the mesh that shares the work, or None.
    """

    metrics: tuple[Metric, ...]
    options: Mapping[str, Mapping[str, Any]]
    num_classes: int | None
    perturb: Callable[..., Any] | None
    layout: Layout | None = None
    _programs: dict[Form, Program] = field(default_factory=dict, compare=False, repr=False)

    def program(self, form: Form) -> Program:
        """The compiled function, kept, so that a second pool of the same shapes is warm."""
        with _lock:
            if form not in self._programs:
                options = tuple(
                    (name, tuple(sorted(own.items()))) for name, own in sorted(self.options.items())
                )
                setup = (self.metrics, options, self.num_classes, self.perturb, self.layout, form)
                try:
                    self._programs[form] = _compiled(*setup)
                except TypeError:  # an option that cannot be hashed, such as an array
                    self._programs[form] = _compiled.__wrapped__(*setup)
            return self._programs[form]


@lru_cache(maxsize=256)
def _compiled(
    metrics: tuple[Metric, ...],
    options: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...],
    num_classes: int | None,
    perturb: Callable[..., Any] | None,
    layout: Layout | None,
    form: Form,
) -> Program:
    quick, several, one_target, one_weight, hasty, platform = form
    halved = quick and platform == "cpu"  # no other device gains by it
    own = {name: dict(given) for name, given in options}

    def one(features: Any, targets: Any, weights: Any, num_features: Any) -> dict[str, Any]:
        features = features.astype(jnp.zeros(()).dtype)  # as the precision context says
        if perturb is not None:
            features, num_features = moved_features(
                perturb,
                features,
                targets,
                num_classes=num_classes,
                weights=weights,
                num_features=num_features,
            )
        look = Look(
            features,
            targets,
            num_classes=num_classes,
            weights=weights,
            num_features=num_features,
            axis=None if layout is None else layout.axis,
        )
        found = {}
        for m in metrics:
            left = m.reduce(look, **own.get(m.name, {})) if halved and m.reduce else None
            found[m.name] = m.parts(look, **own.get(m.name, {})) if left is None else left
        return found

    if not several:
        return Program(one, HASTY if hasty else LEAN)
    stacked = jax.vmap(one, in_axes=(0, None if one_target else 0, None if one_weight else 0, 0))

    def in_turn(features: Any, targets: Any, weights: Any, widths: Any) -> Any:
        def each(own: Any) -> Any:
            x, y, w, d = own
            return one(x, targets if one_target else y, weights if one_weight else w, d)

        own = (features, () if one_target else targets, () if one_weight else weights, widths)
        return jax.lax.map(each, own)

    # On a CPU every batched LAPACK call keeps a thread of XLA's pool and waits in it for others:
    # as many at once as there are threads (LogME's and FaCe's on two cores) wait for ever, and
    # so do sums over devices beside one.
    several_at_once = in_turn if platform == "cpu" else stacked
    if layout is None:
        return Program(several_at_once)

    def on_each(*inputs: Any) -> Any:
        found = several_at_once(*inputs)
        if layout.models == 1:
            return found
        return jax.tree.map(lambda part: jax.lax.all_gather(part, MODELS, tiled=True), found)

    samples = layout.spec(SAMPLES) if one_target else layout.spec(MODELS, SAMPLES)
    both, models = layout.spec(MODELS, SAMPLES), layout.spec(MODELS)
    return Program(
        jax.shard_map(
            on_each,
            mesh=layout.mesh,
            in_specs=(both, samples, both, models),
            out_specs=layout.spec(),
            check_vma=False,
        ),
    )
