"""Types and shapes at run time, by jaxtyping and beartype; the package itself needs neither."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from beartype import beartype
from jax import Array
from jaxtyping import Bool, Float, jaxtyped

from jaxte.intake.outputs import SourceOutputs
from jaxte.metrics import REGISTRY
from jaxte.statistics import Sample, Statistics

CHECKED = """
from jaxtyping import install_import_hook

with install_import_hook(
    ["jaxte.statistics", "jaxte.metrics", "jaxte.perturb"], "beartype.beartype"
):
    import jaxte.perturb
    import jaxte.ranking.rank
import jax
import numpy as np

rng = np.random.default_rng(0)
x, y = rng.normal(size=(60, 5)), np.arange(60) % 3
head = rng.dirichlet(np.ones(4), size=60)
pool = {"stream": {"features": [x[:30], x[30:]], "probabilities": head}}
names = list(jaxte.metrics.REGISTRY)
ranking = jaxte.rank(pool, y, metrics=names)
for metric in names:
    refused = "all_rows" in jaxte.metrics.REGISTRY[metric].needed({})
    status = ranking.status("stream", metric)
    assert ("all samples" in status) if refused else (status == "ok"), (metric, status)
moved = jaxte.rank({"array": x}, y, metrics="face", perturb="spread_attract", precision="float32")
assert moved.status("array", "face") == "ok"
for metric in jaxte.metrics.REGISTRY.values():  # types are checked while it is traced
    score = lambda x, m=metric: m.function(x, y, num_classes=3)
    single = x.astype(np.float32)
    jax.make_jaxpr(lambda x: jax.jvp(score, (x,), (x,)))(single)  # all own rules are of jvp
    with jax.enable_x64(True):
        jax.make_jaxpr(score)(np.zeros((60, 70)))
"""


def test_annotations_hold() -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", CHECKED], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@jaxtyped(typechecker=beartype)
def check_shapes(
    residuals: Float[Array, "n d"],
    columns: Float[Array, "n k"],
    means: Float[Array, "C d"],
    counts: Float[Array, " C"],
    squares: Float[Array, "C d"],
    within: Float[Array, " C"],
    scatter: Float[Array, "d d"],
    diagonal: Float[Array, " d"],
    present: Bool[Array, " k"],
    valid: Bool[Array, ""],
    width: Float[Array, ""],
) -> None:
    pass


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("shape", [(20, 6), (6, 20)])
def test_shapes_of_statistics(shape: tuple[int, int], regression: bool, precision: str) -> None:
    n = shape[0]
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    y = x[:, :2] if regression else jnp.arange(n) % 3

    def check(x: Array, y: Array) -> None:
        own = Statistics(Sample(x, y), num_classes=None if regression else 3)
        check_shapes(
            own.residuals,
            own.columns,
            own.moments.means,
            own.counts,
            own.squares if not regression else own.moments.means,
            own.within_class_ss if not regression else own.counts,
            own.scatter,
            own.within_diagonal,
            own.present,
            own.valid,
            own.width,
        )
        assert own.ridge.present.shape == own.present.shape

    jax.eval_shape(check, x, y)  # shapes are known without a value


@pytest.mark.parametrize("name", REGISTRY)
def test_outputs_are_scalars(name: str) -> None:
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(30, 4))), jnp.arange(30) % 3
    metric = REGISTRY[name]

    def outputs(x: Array, y: Array) -> dict[str, Array]:
        sample = Sample(x, y, source=SourceOutputs(probabilities=x))
        statistics = Statistics(sample, num_classes=3)
        return dict(metric.evaluate(statistics, metric.all_options({})))

    assert {value.shape for value in jax.eval_shape(outputs, x, y).values()} == {()}
