"""`jaxte metrics`: the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from jaxte.cli import _options as options
from jaxte.cli import _output
from jaxte.cli._errors import one_line_errors, warn
from jaxte.cli._output import Format


def metrics(
    name: Annotated[str | None, typer.Argument(help="All that is known of one metric.")] = None,
    form: options.Form = None,
    out: options.Out = None,
) -> None:
    """List the metrics, those of other packages too: what they measure and read, and their papers.

    CSV and JSON have everything: options, variants, invariances, passes, cost.
    """
    with one_line_errors():
        form, *_ = _output.checked(form, out)
        from jaxte import report
        from jaxte.metrics import Metric, get_metric, installed
        from jaxte.report.metrics import SHOWN, describe

        metrics = installed() if name is None else {name: get_metric(name)}
        for error in metrics.values():
            if not isinstance(error, Metric):
                warn(str(error))
        records = [describe(metric) for metric in metrics.values() if isinstance(metric, Metric)]
        if form is Format.CSV:
            _output.write(report.csv_text(records), out)
        elif form is Format.JSON:
            _output.write(report.json_text(records), out)
        elif name is not None and form is Format.TABLE:  # in lines that can be copied as a whole
            facts = {key: value for key, value in records[0].items() if value}
            width = max(map(len, facts))
            _output.write("\n".join(f"{key:{width}}  {facts[key]}" for key in facts), out)
        else:
            short = [{key: record[key] for key in SHOWN} for record in records]
            if name is not None:
                short = [{"": key, name: value} for key, value in records[0].items() if value]
            table = report.plain_table(short)
            if form is Format.MARKDOWN:
                _output.write(report.to_markdown(table), out)
            else:
                _output.write_page([table], out, form)
