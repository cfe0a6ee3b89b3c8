"""`jaxte evaluate SCORES ACCURACIES`: which metric ranked as fine-tuning did."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxte.cli import _cache, _output
from jaxte.cli import _options as options
from jaxte.cli._accuracies import accuracies_of, draw
from jaxte.cli._errors import check_counts, one_line_errors
from jaxte.cli._output import Format


@options.command
def evaluate(
    *,
    scores: Annotated[str, typer.Argument(help="File or directory of scores.")],
    accuracies: Annotated[
        str, typer.Argument(help="File or directory of accuracies, or published:POOL/REGIME.")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="The data set of files that name none; or the only one.")
    ] = None,
    output: options.Output,
    draws: Annotated[int, typer.Option(help="Random orders and bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the random orders and bootstrap samples.")] = 0,
) -> None:
    """Compare the order of scores with the accuracies that fine-tuning reached.

    SCORES is a CSV, JSON or Parquet file with the columns model, dataset, metric, score, or what
    `jaxte rank` writes; or a directory with a file for each data set (<data set>.csv, or
    <metric>/<data set>_metrics.json, as the SFDA family writes them). ACCURACIES has the columns
    model, dataset, accuracy and, if several were measured, seed; or is JSON: data set -> model ->
    accuracy. What is missing in one of them is named. --plot FILE draws the measures, and the
    scores against the accuracies into a second file, FILE-scores.
    """
    with one_line_errors():
        form, out, plot = _output.checked(*output)
        check_counts(draws=draws)
        check_counts(0, seed=seed)
        from jaxte.evaluate import evaluate

        _cache.turn_on()
        truth = accuracies_of(accuracies)
        result = evaluate(scores, truth, dataset=dataset, draws=draws, seed=seed)
        if form in _output.PAGES:
            _output.write_page(result.tables(), out, form)
        else:
            texts = {Format.CSV: result.to_csv, Format.JSON: result.to_json}
            _output.write(texts.get(form, result.to_markdown)(), out)
        draw(result, result, plot)
