"""Rankings on several devices or processes, as JSON: run as a script with a mode of its own.

A process can give itself several devices only before JAX starts, so each test file has to start
one; `test_mesh.py` imports the cases and compares with what one device finds.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import jax
import numpy as np

import jaxte

N, C = 43, 4  # rows do not divide by 4 devices
WIDTHS = {"narrow": 9, "middle": 21, "broad": 30, "wide": 70}
METRICS = ("logme", "sfda", "face")
Case = dict[str, Any]


def labels() -> np.ndarray:
    return np.random.default_rng(1).permutation(np.arange(N) % C)


def pool() -> dict[str, np.ndarray]:
    random, y = np.random.default_rng(0), labels()
    return {
        name: 5 + random.normal(size=(N, d)) + 1.5 * np.eye(C, d)[y] for name, d in WIDTHS.items()
    }


def cases() -> Iterator[tuple[str, Mapping[str, int], Case]]:
    """Name, mesh, and the arguments of rank()."""
    models, y = pool(), labels()
    base: Case = {"features": models, "targets": y, "metrics": METRICS, "precision": "float64"}
    yield "samples", {"samples": 4}, base
    # what the mesh does with models is the same for all metrics
    yield "models", {"models": 4}, base | {"metrics": ("face",)}
    yield "both", {"models": 2, "samples": 2}, base | {"metrics": ("logme", "face")}
    weights = np.arange(N) % 3.0
    yield "weights", {"samples": 4}, base | {"weights": weights, "metrics": ("logme", "face")}
    holed = models["middle"].copy()
    holed[7, 2] = np.nan
    # those that are left make up the shape that is compiled already
    yield "broken", {"samples": 4}, base | {"features": {"holed": holed, **models}}
    # without the wide one: samples on several devices leave only its singular d x d scatter
    long = {name: x for name, x in models.items() if name != "wide"}
    single = base | {"features": long, "precision": "float32", "metrics": ("logme", "sfda")}
    yield "single", {"models": 2, "samples": 2}, single
    targets = models["broad"][:, :2] @ np.array([[1.0, 0.0], [2.0, -1.0]])
    targets += np.random.default_rng(2).normal(size=targets.shape)
    regression = base | {"targets": targets, "metrics": "logme"}
    yield "regression", {"models": 2, "samples": 2}, regression
    # not as many for each device; of one metric by gradients, of one by groups of rows
    again = {"metrics": ("logme", "transrate"), "permutations": 6, "intervals": True, "seed": 3}
    yield "again", {"models": 4}, base | again | {"features": {"middle": models["middle"]}}


def mesh_of(shape: Mapping[str, int]) -> jax.sharding.Mesh:
    kinds = (jax.sharding.AxisType.Auto,) * len(shape)
    return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=kinds)


def told(ranking: jaxte.Ranking) -> dict[str, list[Any]]:
    """What can be compared: "model metric" -> score, what goes with it, and status."""
    table: dict[str, list[Any]] = {}
    for model in ranking.models:
        for metric in ranking.metrics:
            beside = (
                *(ranking.chance(model, metric) or ()),
                *(ranking.interval(model, metric) or ()),
            )
            numbers = [ranking.score(model, metric), *map(float, beside)]
            table[f"{model} {metric}"] = [numbers, ranking.status(model, metric)]
    return table


def message(**arguments: Any) -> str:
    try:
        jaxte.rank(**arguments)
    except jaxte.InputError as error:
        return str(error)
    return "no error"


def on_devices() -> dict[str, Any]:
    actual: dict[str, Any] = {}
    for name, shape, arguments in cases():
        ranking = jaxte.rank(**arguments, mesh=mesh_of(shape))
        actual[name] = told(ranking) | {"devices": ranking.meta["devices"]}
    first = next(cases())[2]
    actual["no mesh"] = message(**first, mesh=4)
    actual["other axis"] = message(**first, mesh=mesh_of({"samples": 2, "rows": 2}))
    actual["perturbed"] = message(**first, mesh=mesh_of({"samples": 4}), perturb="spread")
    moved = first | {"metrics": "face", "perturb": "spread"}
    actual["perturbed models"] = told(jaxte.rank(**moved, mesh=mesh_of({"models": 4})))
    return actual | {"placed": placed(first), "copied": copied}


copied: list[int] = []  # sizes of the arrays of JAX that came to the host


def placed(arguments: Case) -> dict[str, Any]:
    """Features that lie on the devices already: on all of them, or on one that is not the first."""
    mesh = mesh_of({"models": 2, "samples": 2})
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    with jax.enable_x64(True):
        features = {
            name: jax.device_put(x, jax.devices()[2] if name == "narrow" else everywhere)
            for name, x in arguments["features"].items()
        }
    plain = np.asarray

    def counted(array: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(array, jax.Array):
            copied.append(array.size)
        return plain(array, *rest, **options)

    with mock.patch.object(np, "asarray", counted):
        return told(jaxte.rank(**arguments | {"features": features, "metrics": "face"}, mesh=mesh))


def in_processes(index: int, address: str) -> dict[str, Any]:
    """The first process holds 17 rows, the second the others, with a hole in one model."""
    jax.distributed.initialize(address, 2, index)
    mesh = mesh_of({"samples": jax.device_count()})
    own = slice(0, 17) if index == 0 else slice(17, N)
    first = next(cases())[2] | {"metrics": ("logme", "sfda")}
    models = {name: x[own] for name, x in first["features"].items()}
    source = first | {"targets": first["targets"][own], "mesh": mesh}
    actual: dict[str, Any] = {"whole": told(jaxte.rank(**source | {"features": models}))}
    broken = {**models, "spare": models["middle"].copy()}  # as many are left as before
    if index == 1:
        broken["middle"] = np.full_like(models["middle"], np.nan)
    actual["broken"] = told(jaxte.rank(**source | {"features": broken}))
    order = np.argsort(first["targets"], kind="stable")[own]  # the first lacks two of the classes
    texts = np.array(["ant", "bee", "cat", "dog"])[first["targets"][order]]
    models = {name: x[order] for name, x in first["features"].items()}
    actual["texts"] = told(jaxte.rank(**source | {"features": models, "targets": texts}))
    other = {f"{name}-{index}": x for name, x in models.items()}
    actual["permutations"] = message(**source | {"permutations": 5})
    return actual | {"names": message(**source | {"features": other})}


if __name__ == "__main__":
    result = on_devices() if sys.argv[1:] == [] else in_processes(int(sys.argv[1]), sys.argv[2])
    print("\n" + json.dumps(result))  # noqa: T201
