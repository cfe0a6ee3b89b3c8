"""Every metric lowers for GPUs and TPUs, which needs neither: in memory, batched and streamed."""

from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxte import moments, perturb
from jaxte.metrics import REGISTRY, logme_fit
from jaxte.statistics import Batch, Sample, Statistics

C = 3
STREAMED = [name for name, one in REGISTRY.items() if "all_rows" not in one.needed({})]
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
    "ped": perturb.ped,
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
            known = kind == "balanced" or not metric.class_balanced
            if metric.from_moments is not None and classes and known:
                lower(metric.from_moments, platform, state)


@each_target
@pytest.mark.parametrize("name", STREAMED)
def test_streamed_passes(name: str, platform: str, dtype: str) -> None:
    """Each pass that a metric asks for, and each of its functions between them."""
    metric = REGISTRY[name]
    options = metric.all_options({})
    with jax.enable_x64(dtype == "float64"):
        y = np.arange(30) % C
        state = moments.update(moments.init(8, num_classes=C), np.eye(30, 8), y)
        batch = Batch(jnp.zeros((30, 8)), jnp.zeros(30, "int32"), jnp.ones(30))

        def call(function: Any, *arguments: Any) -> Any:
            *given, own = arguments
            lower(partial(function, **own), platform, *given)
            return function(*given, **own)

        steps, result = (
            metric.steps(Statistics.of_moments(state, 8, route="full"), options, call),
            None,
        )
        while True:
            try:
                one, constants, _ = steps.send(result).chain[-1]
            except StopIteration:
                break
            lower(partial(one.apply, **options), platform, constants, batch)
            transformed = Statistics.of_moments(state, 8, route="full")
            sums = jax.eval_shape(partial(one.apply, **options), constants, batch)
            zeros = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), sums)
            result = transformed if one.transform else zeros


@each_target
@pytest.mark.parametrize("name", REGISTRY)
def test_on_a_mesh(name: str, platform: str, dtype: str) -> None:
    """One program over the devices of a mesh that is only described."""
    metric = REGISTRY[name]
    mesh = jax.sharding.AbstractMesh((4,), ("samples",))
    rows = jax.sharding.PartitionSpec("samples")

    def score(x: Any, y: Any, w: Any) -> Any:
        statistics = Statistics(Sample(x, y, w), num_classes=C, axis="samples", route="full")
        return metric.evaluate(statistics, metric.all_options({}))["score"]

    with jax.enable_x64(dtype == "float64"):
        on_each = jax.shard_map(
            score,
            mesh=mesh,
            in_specs=rows,
            out_specs=jax.sharding.PartitionSpec(),
            check_vma=False,
        )
        x, y = jax.ShapeDtypeStruct((40, 8), dtype), jax.ShapeDtypeStruct((40,), "int32")
        lower(on_each, platform, x, y, jax.ShapeDtypeStruct((40,), dtype))
