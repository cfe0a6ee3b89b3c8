"""`extract_many`: many models on many data sets, models of one architecture after each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from jaxte._progress import Progress, reporter
from jaxte.errors import InputError
from jaxte.extraction.loop import extract
from jaxte.extraction.models import Model, as_model
from jaxte.runtime.threads import cores

if TYPE_CHECKING:
    from jaxte.data import Dataset
    from jaxte.store import FeatureStore

__all__ = ["extract_many"]


def extract_many(
    models: Iterable[Any],
    datasets: Mapping[str, Dataset],
    *,
    layers: str | Sequence[str] | None = None,
    pool: str = "mean",
    progress: bool | Progress = False,
    **options: Any,
) -> dict[str, dict[str, FeatureStore]]:
    """The features of many models on many data sets, in memory.

    Models of one architecture follow each other and share its compilation; a few threads work on
    different architectures, as XLA compiles outside the lock of the interpreter.

    Args:
        models: what `jaxte.extract` takes, of different names.
        datasets: by name, each with a label, a number or a vector of them for an example.
        layers: as in `jaxte.extract`, like ``pool``: "all" for all of each model.
        pool: how a layer of many positions becomes one vector.
        progress: True for a bar, or a function (done, total, name), called after each model.
        **options: of `jaxte.extract`, as ``batch_size``; a divisor of the numbers of examples
            wastes no row.

    Returns:
        name of a data set -> name of a model -> `FeatureStore`.

    Raises:
        InputError: as `jaxte.extract` does; if two models have one name.

    Example:
        >>> import jaxte
        >>> from jaxte.extraction import extract_many
        >>> digits = jaxte.data.load("zoo:digits/train").subset(20)
        >>> vgg = jaxte.zoo.load("vgg-cifar")
        >>> extract_many([vgg], {"digits": digits}, layers="all")["digits"]["vgg-cifar"].layers[-2:]
        ('dense', 'penultimate')
    """
    groups: dict[Any, list[Model]] = {}
    names: list[str] = []
    for one in models:
        model = as_model(one, layers=layers, pool=pool)
        if model.name in names:
            raise InputError(f"two models are called {model.name}: as_model(..., name=...)")
        names.append(model.name)
        groups.setdefault(model.apply, []).append(model)

    def run(group: list[Model]) -> dict[str, dict[str, FeatureStore]]:
        return {
            model.name: {name: extract(model, data, **options) for name, data in datasets.items()}
            for model in group
        }

    stores: dict[str, dict[str, FeatureStore]] = {}
    with (
        reporter(progress, "models", unit="") as report,
        ThreadPoolExecutor(min(4, cores())) as threads,
    ):
        for job in as_completed([threads.submit(run, group) for group in groups.values()]):
            for name, by_data in job.result().items():
                stores[name] = by_data
                report(len(stores), len(names), name)
    return {data: {name: stores[name][data] for name in names} for data in datasets}
