"""Every metric lowers for GPUs and TPUs, which needs neither: in memory, batched and streamed.

Nothing runs. What is traced in float32 is lowered for both: wide problems in batches, long ones on
a mesh and streamed. Float64, which only GPUs have, is asked for once a metric.
"""

import re
from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxte import moments, perturb
from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics import REGISTRY, logme_fit
from jaxte.statistics import Batch, Sample, Statistics

C = 3
PLATFORMS = {"float32": ("tpu", "cuda"), "float64": ("cuda",)}
STREAMED = [name for name, one in REGISTRY.items() if "all_rows" not in one.needed({})]
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


def lower(function: Any, dtype: str, *like: Any) -> tuple[Any, list[str]]:
    """The function under jit, which keeps its trace, and what it is lowered to."""
    jitted = jax.jit(function)
    try:
        exported = [jax.export.export(jitted, platforms=PLATFORMS[dtype])(*like)]
    except NotImplementedError:  # a GPU's singular values are no TPU's: not in one module
        exported = [jax.export.export(jitted, platforms=[p])(*like) for p in PLATFORMS[dtype]]
    texts = [one.mlir_module() for one in exported]
    assert dtype == "float64" or not any("f64" in text for text in texts)
    return jitted, texts


# `map_tiles` runs these one by one on a CPU; a `vmap` of a user's own makes such batches again.
BATCHED = re.compile(
    r"(?:@lapack_|@blas_|stablehlo\.(?:cholesky|triangular_solve)).*tensor<\d+x\d+x\d+x"
)


def assert_no_batches_on_a_cpu(jitted: Any, *like: Any) -> None:
    """Two batches of factorisations at the same time can wait for each other's threads for ever."""
    text = jitted.trace(*like).lower(lowering_platforms=("cpu",)).as_text()
    assert not BATCHED.findall(text)


def shaped(function: Any, *like: Any) -> Any:
    """What the function would return, in type and shape."""
    return jax.tree.map(lambda one: np.ones(one.shape, one.dtype), jax.eval_shape(function, *like))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 12, 20), "float32"), ((40, 8), "float64")],
    ids=["three-wide", "tall-float64"],
)
@pytest.mark.parametrize("name", CALLS)
def test_metrics(name: str, shape: tuple[int, ...], dtype: str) -> None:
    def call(x: Any, y: Any, w: Any) -> Any:
        return CALLS[name](x, y, weights=w, num_classes=C)

    with jax.enable_x64(dtype == "float64"):
        x, w = jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(shape[-2:-1], dtype)
        y = jax.ShapeDtypeStruct(shape[-2:-1], "int32")
        if len(shape) == 3:
            _, texts = lower(jax.vmap(call, in_axes=(0, None, None)), dtype, x, y, w)
            # of which a GPU would make TF32, with three digits
            assert not any("[DEFAULT, DEFAULT]" in text for text in texts)
        else:
            assert_no_batches_on_a_cpu(lower(call, dtype, x, y, w)[0], x, y, w)


@pytest.mark.parametrize("dtype", PLATFORMS)
@pytest.mark.parametrize("kind", ["classes", "balanced", "regression"])
def test_moments(kind: str, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        options: dict[str, Any] = {"num_classes": C}
        y = jax.ShapeDtypeStruct((30,), "int32")
        if kind == "balanced":
            options["class_counts"] = jnp.ones(C)
        if kind == "regression":
            options, y = {"num_targets": 2}, jax.ShapeDtypeStruct((30, 2), dtype)
        state = moments.init(8, **options)
        x = jax.ShapeDtypeStruct((30, 8), dtype)
        lower(moments.update, dtype, state, x, y)
        lower(moments.merge, dtype, state, state)
        for metric in REGISTRY.values() if dtype == "float32" else ():
            classes = kind != "regression" or "regression" in metric.tasks
            known = kind == "balanced" or not metric.class_balanced
            if metric.from_moments is not None and classes and known:
                lower(metric.from_moments, dtype, state)


@pytest.mark.parametrize("name", STREAMED)
def test_streamed_passes(name: str) -> None:
    """Each pass that a metric asks for, and each of its functions between them."""
    metric = REGISTRY[name]
    options = metric.all_options({})
    x, y = np.zeros((30, 8), np.float32), np.zeros(30, np.int32)
    state = shaped(moments.update, moments.init(8, num_classes=C), x, y)
    batch = Batch(*map(jnp.asarray, (x, y, np.ones(30, np.float32), x, x, x)))

    def call(function: Any, *arguments: Any) -> Any:
        *dynamic, own = arguments
        lower(partial(function, **own), "float32", *dynamic)
        return shaped(partial(function, **own), *dynamic)

    statistics, result = Statistics.of_moments(state, 8, route="full"), None
    steps = metric.steps(statistics, options, call)
    while True:
        try:
            one, constants, _ = steps.send(result).chain[-1]
        except StopIteration:
            break
        apply = partial(one.apply, **options)
        lower(apply, "float32", constants, batch)
        result = statistics if one.transform else shaped(apply, constants, batch)


@pytest.mark.parametrize("name", STREAMED)
def test_on_a_mesh(name: str) -> None:
    """One program over the devices of a mesh that is only described."""
    metric = REGISTRY[name]
    auto = (jax.sharding.AxisType.Auto,)  # of which meshes are by default differs between releases
    mesh = jax.sharding.AbstractMesh((4,), ("samples",), axis_types=auto)
    rows = jax.sharding.PartitionSpec("samples")

    def score(x: Any, y: Any, w: Any) -> Any:
        sample = Sample(x, y, w, source=SourceOutputs(probabilities=x))
        statistics = Statistics(sample, num_classes=C, axis="samples", route="full")
        return metric.evaluate(statistics, metric.all_options({}))["score"]

    on_each = jax.shard_map(
        score,
        mesh=mesh,
        in_specs=rows,
        out_specs=jax.sharding.PartitionSpec(),
        check_vma=False,
    )
    x, y = jax.ShapeDtypeStruct((40, 8), "float32"), jax.ShapeDtypeStruct((40,), "int32")
    lower(on_each, "float32", x, y, jax.ShapeDtypeStruct((40,), "float32"))


@pytest.mark.parametrize("name", ["logme", "ridge_probe"])
@pytest.mark.parametrize("shape", [(3, 300, 260), (3, 260, 300)], ids=["tall", "wide"])
def test_an_accelerator_takes_no_eigenvectors(name: str, shape: tuple[int, ...], x64: None) -> None:
    """A pool in float64: by Cholesky factors, of all models at once."""
    metric = REGISTRY[name]

    def score(x: Any, y: Any) -> Any:
        statistics = Statistics(Sample(x, y), num_classes=C, route="batched")
        return metric.evaluate(statistics, metric.all_options({}))["score"]

    x, y = jax.ShapeDtypeStruct(shape, "float64"), jax.ShapeDtypeStruct(shape[1:2], "int32")
    jitted = jax.jit(jax.vmap(score, in_axes=(0, None)))
    text = jax.export.export(jitted, platforms=["cuda"])(x, y).mlir_module()
    assert "cholesky" in text or "potrf" in text
    assert not re.search("syev|gesvd|geqrf", text)


WITH_OPTIONS = [
    (name, options)
    for name, metric in REGISTRY.items()
    for options in ({"folds": 2}, {"covariance": "full"})
    if options.keys() <= {*metric.parameters}
]


@pytest.mark.parametrize(("name", "options"), WITH_OPTIONS)
def test_no_batch_of_factorisations_by_these_options(name: str, options: dict[str, Any]) -> None:
    x, y = jax.ShapeDtypeStruct((40, 8), "float32"), jax.ShapeDtypeStruct((40,), "int32")
    function = partial(REGISTRY[name].function, num_classes=C, **options)
    assert_no_batches_on_a_cpu(jax.jit(function), x, y)


@pytest.mark.parametrize("name", ["hscore", "ncti", "parc", "rankme", "tvt"])
def test_no_batch_of_what_only_wide_features_take(name: str, x64: None) -> None:
    """Also by the quick route of a pool, from a reduction that is there."""
    metric = REGISTRY[name]

    def score(x: Any, y: Any, route: str) -> Any:
        statistics = Statistics(Sample(x, y), num_classes=C, route=route)
        return metric.evaluate(statistics, metric.all_options({}))["score"]

    x, y = jax.ShapeDtypeStruct((300, 260), "float64"), jax.ShapeDtypeStruct((300,), "int32")
    for route in ("quick", "sure"):
        function = jax.jit(partial(score, route=route))
        text = function.trace(x, y).lower(lowering_platforms=("cpu",)).as_text()
        assert not re.findall(r"@lapack_\w+\(.*num_batch_dims = \"[1-9]", text)
        assert not BATCHED.findall(text)
