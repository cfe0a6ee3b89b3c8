"""`jaxte zoo`: what ships with jaxte, and how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxte.cli import _cache, _common
from jaxte.cli._common import Format, FormatOption, OutOption

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        Path | None, typer.Option(help="Directory of the original files (see jaxte.zoo.sources).")
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
        typer.Option(help="Of pretrain, targets, finetune, probe; all by default."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Seeds per measured accuracy.")] = 3,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make everything anew, finished pieces too.")
    ] = False,
) -> None:
    """Make weights, target sets and fine-tuned accuracies from the original data.

    This takes hours on a CPU. What is finished is kept, so that an interrupted build goes on where
    it stopped.
    """
    with _common.one_line_errors():
        from jaxte import InputError
        from jaxte.zoo.build import STAGES
        from jaxte.zoo.build import build as build_zoo

        if data is None and not tfds:
            raise InputError("say where the original data is: --data DIR, or --tfds")
        _cache.turn_on()
        build_zoo(
            data,
            out=out,
            models=_common.names(models) if models else None,
            stages=_common.names(stages) if stages else STAGES,
            tfds=tfds,
            seeds=seeds,
            progress=typer.echo,
            resume=not fresh,
        )
