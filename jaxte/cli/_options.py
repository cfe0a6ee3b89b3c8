"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

from jaxte.cli._output import Format
from jaxte.errors import InputError

SPEC = r"(?:zoo|encoder|hf|timm|python):"
_NEXT = re.compile(rf",\s*(?=(?:[\w.+-]+=)?{SPEC})")

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


class Output(NamedTuple):
    """Where results go, of commands that draw them, too."""

    form: Form = None
    out: Out = None
    plot: Plot = None


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
    list[str] | None,
    typer.Option(
        metavar="PATHS",
        help="Comma-separated or repeated paths of layers, as blocks/11,penultimate, or all; by "
        "default the model's.",
    ),
]
Pool = Annotated[str | None, typer.Option(help="mean, max, cls, last or flatten; mean by default.")]
Seed = Annotated[int, typer.Option(help="Of the subset and of the choice of pixels.")]
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


class Extraction(NamedTuple):
    """How examples are chosen and features made of them."""

    batch_size: Annotated[int | None, typer.Option(help="Examples at once (64).")] = None
    dtype: Annotated[
        str, typer.Option(help="Of the stored features: float32, float16 or bfloat16.")
    ] = "float32"
    compute_dtype: Annotated[
        str | None, typer.Option(help="Of the models' arithmetic, as bfloat16.")
    ] = None
    max_length: Annotated[int | None, typer.Option(help="Tokens at which texts are cut.")] = None
    logits: Annotated[
        bool,
        typer.Option("--logits/--no-logits", help="Keep the output of the models' own heads."),
    ] = True
    subset: Annotated[
        int | None, typer.Option(help="Draw so many examples, each class its share.")
    ] = None
    seed: Seed = 0
    limit: Annotated[int | None, typer.Option(help="Take the first so many examples only.")] = None
    data_dir: Annotated[str | None, typer.Option(help="Directory of tensorflow-datasets.")] = None
    pixels: Annotated[
        float | None,
        typer.Option(help="Of label maps: positions of each class that are taken of an image (8)."),
    ] = None
    pixel_budget: Annotated[
        int | None, typer.Option(help="Instead: positions of each class in the whole data set.")
    ] = None
    workers: Annotated[int, typer.Option(help="Threads that read and prepare examples ahead.")] = 0
    devices: Annotated[
        int | None,
        typer.Option(help="Share every batch between so many devices (or CPU cores)."),
    ] = None


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


class Trust(NamedTuple):
    """What tells how far scores can be trusted."""

    permutations: Annotated[
        int,
        typer.Option(
            help="Score so many random labellings too: what each score is without any signal."
        ),
    ] = 0
    intervals: Annotated[
        bool | None,
        typer.Option(
            help="Tell how far scores differ on other samples, and who leads there; by default of "
            "the metric that decides, where that is cheap."
        ),
    ] = None

    def options(self) -> dict[str, Any]:
        """As `jaxte.rank` takes them."""
        intervals = "auto" if self.intervals is None else self.intervals
        return {"permutations": self.permutations, "intervals": intervals}

    def flags(self) -> dict[str, Any]:
        """As the command line has them."""
        flag = {None: {}, True: {"intervals": True}, False: {"no-intervals": True}}
        return {"permutations": self.permutations, **flag[self.intervals]}


class Sharing(NamedTuple):
    """Devices and processes that share the rows."""

    devices: Annotated[
        int | None, typer.Option(help="Share the samples between so many devices (or CPU cores).")
    ] = None
    processes: Annotated[
        int | None, typer.Option(help="Start so many processes, each with its share of rows.")
    ] = None
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Process 0, where they run on several machines."),
    ] = None
    process_id: Annotated[
        int | None, typer.Option(help="Which of the processes this one is, from 0.")
    ] = None


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A function for `typer`: a parameter that is a NamedTuple stands for an option a field."""
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, one in signature.parameters.items():
        if not hasattr(one.annotation, "_fields"):
            parameters.append(one.replace(kind=one.KEYWORD_ONLY))
            continue
        groups[name] = one.annotation
        hints = get_type_hints(one.annotation, include_extras=True)
        defaults = one.annotation._field_defaults
        parameters += [
            inspect.Parameter(field, one.KEYWORD_ONLY, default=defaults[field], annotation=hint)
            for field, hint in hints.items()
        ]

    @functools.wraps(function)
    def grouped(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(*map(values.pop, group._fields))
        function(**values)

    grouped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    grouped.__annotations__ = {one.name: one.annotation for one in parameters}
    return grouped


def names(texts: Iterable[str]) -> tuple[str, ...]:
    """The names in comma-separated lists."""
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


def models(texts: Iterable[str]) -> tuple[str, ...]:
    """The models in comma-separated lists of SPEC or NAME=SPEC, or of names in the zoo.

    Paths may have commas: one parts two models only where a kind of model follows.
    """
    return tuple(
        model.strip()
        for text in texts
        for model in (_NEXT.split(text) if ":" in text else text.split(","))
        if model.strip()
    )


def parse_settings(settings: list[str] | None) -> dict[str, dict[str, Any]]:
    """`["sfda.variant=paper"]` as `{"sfda": {"variant": "paper"}}`, numbers as numbers."""
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
