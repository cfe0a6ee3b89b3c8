"""Every metric lowers for GPUs and TPUs, which needs neither: in memory, batched and streamed."""

from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import pytest

from jaxte import moments, perturb
from jaxte.metrics import REGISTRY, logme_fit

C = 3
TARGETS = [("tpu", "float32"), ("cuda", "float64")]
each_target = pytest.mark.parametrize(("platform", "dtype"), TARGETS)
CALLS: dict[str, Any] = {
    **{name: metric.function for name, metric in REGISTRY.items()},
    **{
        f"{name}-{variant}": partial(metric.function, variant=variant)
        for name, metric in REGISTRY.items()
        for variant in metric.variants[1:]
    },
    "logme_fit": logme_fit,
    "face-full": partial(REGISTRY["face"].function, covariance="full"),
    "sfda-fixed": partial(REGISTRY["sfda"].function, shrinkage=0.0),
    "spread_attract": perturb.spread_attract,
}


def lower(function: Any, platform: str, *like: Any) -> None:
    text = jax.export.export(jax.jit(function), platforms=[platform])(*like).mlir_module()
    assert platform != "tpu" or "f64" not in text


@each_target
@pytest.mark.parametrize("shape", [(12, 20), (3, 40, 8)], ids=["wide", "three-tall"])
@pytest.mark.parametrize("name", CALLS)
def test_metrics(name: str, shape: tuple[int, ...], platform: str, dtype: str) -> None:
    def call(x: Any, y: Any, w: Any) -> Any:
        return CALLS[name](x, y, weights=w, num_classes=C)

    with jax.enable_x64(dtype == "float64"):
        x, w = jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(shape[-2:-1], dtype)
        y = jax.ShapeDtypeStruct(shape[-2:-1], "int32")
        many = jax.vmap(call, in_axes=(0, None, None)) if len(shape) == 3 else call
        lower(many, platform, x, y, w)


@each_target
@pytest.mark.parametrize("kind", ["classes", "balanced", "regression"])
def test_moments(kind: str, platform: str, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        options: dict[str, Any] = {"num_classes": C}
        y = jax.ShapeDtypeStruct((30,), "int32")
        if kind == "balanced":
            options["class_counts"] = jnp.ones(C)
        if kind == "regression":
            options, y = {"num_targets": 2}, jax.ShapeDtypeStruct((30, 2), dtype)
        state = moments.init(8, **options)
        x = jax.ShapeDtypeStruct((30, 8), dtype)
        lower(moments.update, platform, state, x, y)
        lower(moments.merge, platform, state, state)
        for metric in REGISTRY.values():
            classes = kind != "regression" or "regression" in metric.tasks
            known = kind == "balanced" or not metric.balanced
            if metric.from_moments is not None and classes and known:
                lower(metric.from_moments, platform, state)


@each_target
@pytest.mark.parametrize("name", REGISTRY)
def test_streamed_passes(name: str, platform: str, dtype: str) -> None:
    """Each pass that a metric asks for, as far as it can be followed without running it."""
    with jax.enable_x64(dtype == "float64"):
        state = moments.init(8, num_classes=C)
        x, y = jax.ShapeDtypeStruct((30, 8), dtype), jax.ShapeDtypeStruct((30,), "int32")
        w = jax.ShapeDtypeStruct((30,), dtype)
        asked = REGISTRY[name].passes(state, 8)
        answer = None
        while True:
            try:
                one = asked.send(answer)
            except StopIteration:
                break
            lower(one.step, platform, one.start, one.held, x, y, w)
            answer = one.start
