"""Options that `jaxte extract` and `jaxte run` share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jaxte.cli import _common, processes

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="SPEC",
        help="Data set: tfds:NAME/SPLIT, folder:DIR, csv:FILE?text=COLUMN, hf:NAME/SPLIT, ...",
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated paths of layers, as blocks/11,penultimate; by default the model's."
    ),
]
PoolOption = Annotated[
    str | None, typer.Option(help="mean, max, cls, last or flatten; mean by default.")
]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="Examples at once (64).")]
DtypeOption = Annotated[
    str, typer.Option(help="Of the stored features: float32, float16 or bfloat16.")
]
ComputeOption = Annotated[
    str | None, typer.Option("--compute-dtype", help="Of the models' arithmetic, as bfloat16.")
]
LengthOption = Annotated[int | None, typer.Option(help="Tokens at which texts are cut.")]
SubsetOption = Annotated[
    int | None, typer.Option(help="Draw so many examples, each class its share.")
]
SeedOption = Annotated[int, typer.Option(help="Of the subset and of the choice of pixels.")]
LimitOption = Annotated[int | None, typer.Option(help="Take the first so many examples only.")]
DirOption = Annotated[str | None, typer.Option(help="Directory of tensorflow-datasets.")]
PixelsOption = Annotated[
    float | None,
    typer.Option(help="Of label maps: positions of each class that are taken of an image (8)."),
]
BudgetOption = Annotated[
    int | None, typer.Option(help="Instead: positions of each class in the whole data set.")
]
LogitsOption = Annotated[
    bool, typer.Option("--logits/--no-logits", help="Keep the output of the models' own heads.")
]
WorkersOption = Annotated[int, typer.Option(help="Threads that read and prepare examples ahead.")]
DevicesOption = Annotated[
    int | None, typer.Option(help="Share every batch between so many devices (or CPU cores).")
]
StoreFlag = Annotated[
    bool,
    typer.Option(
        "--store/--no-store",
        help="Without a store only moments are made, and LogME and FaCe of them.",
    ),
]
DryOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, and what is there already.")
]
TraceOption = Annotated[
    bool, typer.Option("--traceback", help="Show in full where a model failed.")
]


def check(
    *,
    dtype: str,
    compute_dtype: str | None,
    pool: str | None,
    pixels: float | None,
    seed: int,
    workers: int,
    **counts: int | None,
) -> None:
    """Raise `InputError` for values that cannot be, before anything is read or loaded."""
    from jaxte.errors import InputError
    from jaxte.extraction.models import COMPUTE_TYPES
    from jaxte.extraction.pooling import check_pool
    from jaxte.intake.checks import choose
    from jaxte.store.columns import FEATURE_TYPES, check_type

    check_type(dtype, FEATURE_TYPES, "features")
    if compute_dtype is not None:
        choose("compute_dtype", compute_dtype, COMPUTE_TYPES)
    if pool is not None:
        check_pool(pool, "example")
    if pixels is not None and not 0 < pixels < float("inf"):
        raise InputError(f"--pixels {pixels}: it must be a positive number")
    _common.check_counts(0, seed=seed, workers=workers)
    _common.check_counts(1, **counts)


def of_models(
    layers: str | None, pool: str | None, compute_dtype: str | None, max_length: int | None
) -> dict[str, Any]:
    """What decides about features of every model, unless it says otherwise."""
    return {
        "layers": None if layers is None else _common.names(layers),
        "pool": pool,
        "compute_dtype": compute_dtype,
        "max_length": max_length,
    }


def team_of(devices: int | None, store: bool) -> processes.Team:
    """The devices that share every batch.

    Raises:
        InputError: for a number of them that cannot be.
    """
    from jaxte.errors import InputError

    if devices is not None and not store:
        raise InputError("--devices is for features that are stored: leave it out, or --no-store")
    return processes.checked(devices, None, None, None, None)
