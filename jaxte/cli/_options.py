"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxte.cli._output import Format

Form = Annotated[
    Format | None,
    typer.Option(
        "--format", help="Form of the output; by default from the ending of --out, else a table."
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write to this file instead of standard output.")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Save a picture too (png, svg or pdf).")]

# --- of `jaxte extract` and `jaxte run` ----------------------------------------------------------

Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="SPEC",
        help="Data set: tfds:NAME/SPLIT, folder:DIR, csv:FILE?text=COLUMN, hf:NAME/SPLIT, ...",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated paths of layers, as blocks/11,penultimate, or all; by default the "
        "model's."
    ),
]
Pool = Annotated[str | None, typer.Option(help="mean, max, cls, last or flatten; mean by default.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Examples at once (64).")]
Dtype = Annotated[str, typer.Option(help="Of the stored features: float32, float16 or bfloat16.")]
ComputeDtype = Annotated[
    str | None, typer.Option("--compute-dtype", help="Of the models' arithmetic, as bfloat16.")
]
MaxLength = Annotated[int | None, typer.Option(help="Tokens at which texts are cut.")]
Subset = Annotated[int | None, typer.Option(help="Draw so many examples, each class its share.")]
Seed = Annotated[int, typer.Option(help="Of the subset and of the choice of pixels.")]
Limit = Annotated[int | None, typer.Option(help="Take the first so many examples only.")]
DataDir = Annotated[str | None, typer.Option(help="Directory of tensorflow-datasets.")]
Pixels = Annotated[
    float | None,
    typer.Option(help="Of label maps: positions of each class that are taken of an image (8)."),
]
PixelBudget = Annotated[
    int | None, typer.Option(help="Instead: positions of each class in the whole data set.")
]
Logits = Annotated[
    bool, typer.Option("--logits/--no-logits", help="Keep the output of the models' own heads.")
]
Workers = Annotated[int, typer.Option(help="Threads that read and prepare examples ahead.")]
Devices = Annotated[
    int | None, typer.Option(help="Share every batch between so many devices (or CPU cores).")
]
Store = Annotated[
    bool,
    typer.Option(
        "--store/--no-store",
        help="Without a store only moments are made, and LogME and FaCe of them.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, and what is there already.")
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show in full where a model failed.")]

# --- of `jaxte rank` and `jaxte run` -------------------------------------------------------------

Normalize = Annotated[
    str,
    typer.Option(
        help="How the terms of a score are combined: sum (as published), minmax, zscore or rank."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="METRIC.OPTION=VALUE", help="An option of one metric."),
]


def names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_settings(settings: list[str] | None) -> dict[str, dict[str, Any]]:
    """`["sfda.variant=paper"]` as `{"sfda": {"variant": "paper"}}`, numbers as numbers."""
    from jaxte.errors import InputError

    options: dict[str, dict[str, Any]] = {}
    words = {"true": True, "false": False, "none": None}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        metric, dot, option = name.partition(".")
        if not (equals and dot and metric and option):
            raise InputError(f"--set {setting}: write METRIC.OPTION=VALUE, as sfda.variant=paper")
        try:
            value = words[text.lower()] if text.lower() in words else json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if option in options.setdefault(metric, {}):
            raise InputError(f"--set {setting}: {name} is set twice")
        options[metric][option] = value
    return options
