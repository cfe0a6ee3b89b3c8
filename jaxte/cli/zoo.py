"""`jaxte zoo`: what ships with jaxte, and how it was made."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxte.cli import _cache, _common
from jaxte.cli._common import Format, FormatOption, OutOption

if TYPE_CHECKING:
    from collections.abc import Mapping


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
def list_(form: FormatOption = None, out: OutOption = None) -> None:
    """List the models and the target sets: what they are, what they come from, their sizes.

    A model's accuracy is its own on the test images of what it was pre-trained on.
    """
    with _common.one_line_errors():
        form = _common.checked_format(form, out)
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
            _common.write(report.json_text({"models": models, "targets": targets}), out)
        elif form is Format.CSV:
            _common.write(report.csv_text([*models, *targets]), out)
        else:
            notes = [
                f"{target['target']}: {target['source']}; {target['licence']}" for target in targets
            ]
            short = [{k: t[k] for k in t if k not in ("source", "licence")} for t in targets]
            tables = [report.plain_table(models), report.plain_table(short, notes)]
            if form is Format.MARKDOWN:
                _common.write("\n".join(map(report.to_markdown, tables)), out)
            else:
                _common.write_page(tables, out, form)


def _training(card: Mapping[str, Any]) -> str:
    if not card["source"]:
        return "nothing (random)"
    return " + ".join(card["source"]) + (" (shuffled)" if card["labels"] == "shuffled" else "")


def _accuracy(card: Mapping[str, Any]) -> str:
    """Top-1 on the test part of what the model was pre-trained on."""
    accuracy = card["source_test_accuracy"]
    return "" if accuracy is None else f"{accuracy:.3f}"


@app.command("build", short_help="Make weights and accuracies from the original data.")
def build(
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
        str | None, typer.Option(help="Comma-separated names; all by default.")
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            "--stages",
            "--only",
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
    targets: Annotated[
        str | None,
        typer.Option(help="Comma-separated targets of the benchmark; all by default."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="File of the benchmark's accuracies, a JSON object a line: pairs that it has are "
            "left out, new ones are added; accuracies.jsonl under --out by default."
        ),
    ] = None,
) -> None:
    """Make weights, target sets and fine-tuned accuracies from the original data.

    This takes hours on a CPU. What is finished is kept, so that an interrupted build, also one that
    was killed, goes on where it stopped. For the benchmark, a model on a target takes about a
    minute on one core; to go on with what was measured for the package, in a copy of its sources:

    jaxte zoo build --pool benchmark --data DIR --resume jaxte/zoo/benchmark/accuracies.jsonl
    """
    with _common.one_line_errors():
        from jaxte import InputError

        if pool is Pool.BENCHMARK:
            _build_benchmark(
                data, out, models, targets, stages, resume,
                unused={"--tfds": tfds, "--seeds": seeds, "--fresh": fresh},
            )  # fmt: skip
            return
        from jaxte.zoo.build import STAGES
        from jaxte.zoo.build import build as build_zoo

        if data is None and not tfds:
            raise InputError("say where the original data is: --data DIR, or --tfds")
        _refuse({"--targets": targets, "--resume": resume}, "zoo")
        _cache.turn_on()
        build_zoo(
            data,
            out=out,
            models=_common.names(models) if models else None,
            stages=_common.names(stages) if stages else STAGES,
            tfds=tfds,
            seeds=3 if seeds is None else seeds,
            progress=typer.echo,
            resume=not fresh,
        )


def _refuse(options: Mapping[str, Any], pool: str) -> None:
    from jaxte import InputError

    for name, value in options.items():
        if value is not None and value is not False:
            raise InputError(f"{name} does not go with --pool {pool}: leave it out")


def _build_benchmark(
    data: Path | None,
    out: Path,
    models: str | None,
    targets: str | None,
    stages: str | None,
    resume: Path | None,
    *,
    unused: Mapping[str, Any],
) -> None:
    from jaxte.zoo.benchmark.build import STAGES, build

    _refuse(unused, "benchmark")
    _cache.turn_on()
    build(
        data,
        out=out,
        models=_common.names(models) if models else None,
        targets=_common.names(targets) if targets else None,
        stages=_common.names(stages) if stages else STAGES,
        results=resume,
        progress=typer.echo,
    )
