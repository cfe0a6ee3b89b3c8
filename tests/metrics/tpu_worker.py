"""Compiles metrics for a TPU that is only described, and prints which could not be; run by a test.

In a process of its own: where libtpu is loaded, JAX would look for a TPU.
"""

import sys

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxte.metrics import REGISTRY

TOPOLOGY = "v5e:2x2"
ROWS, WIDTH, CLASSES = 300, 64, 5


def main() -> None:
    """Every metric that has no option without a default, or those that are named."""
    devices = topologies.get_topology_desc(TOPOLOGY, platform="tpu").devices
    everywhere = NamedSharding(Mesh(np.array(devices[:1]), ("x",)), PartitionSpec())
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), "float32")
    y, w = (jax.ShapeDtypeStruct((ROWS,), dtype) for dtype in ("int32", "float32"))
    for name in sys.argv[1:] or REGISTRY:
        metric = REGISTRY[name]
        if any(one.default is one.empty for one in metric.parameters.values()):
            continue

        def score(x: jax.Array, y: jax.Array, w: jax.Array, call=metric.function) -> jax.Array:  # type: ignore[no-untyped-def]
            own: jax.Array = call(x, y, weights=w, num_classes=CLASSES)
            return own

        program = jax.jit(score, in_shardings=everywhere, out_shardings=everywhere)
        try:
            program.lower(x, y, w).compile()
            line = f"{name} compiles"
        except Exception as error:  # the next ones are worth knowing, too
            line = f"{name} fails: {str(error).splitlines()[0]}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
