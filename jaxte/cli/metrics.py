"""`jaxte metrics`: the registry."""

from __future__ import annotations

from jaxte.cli import _options as options
from jaxte.cli import _output
from jaxte.cli._errors import one_line_errors, warn
from jaxte.cli._output import Format


def metrics(form: options.Form = None, out: options.Out = None) -> None:
    """List the metrics, those of other packages too, with papers, tasks, ranges and variants."""
    with one_line_errors():
        form = _output.checked_format(form, out)
        from jaxte import report
        from jaxte.metrics import Metric, installed

        metrics = installed()
        for error in metrics.values():
            if not isinstance(error, Metric):
                warn(str(error))
        records = [
            {
                "name": metric.name,
                "tasks": ", ".join(metric.tasks),
                "range": f"{metric.range[0]:g} to {metric.range[1]:g}",
                "invariant to": ", ".join(sorted(metric.invariances)) or "nothing more",
                "variants": ", ".join(
                    f"{name} (default)" if name == metric.default_variant else name
                    for name in metric.variants
                ),
                "paper": metric.paper,
                "cost": metric.cost,
            }
            for metric in metrics.values()
            if isinstance(metric, Metric)
        ]
        if form is Format.CSV:
            _output.write(report.csv_text(records), out)
        elif form is Format.JSON:
            _output.write(report.json_text(records), out)
        elif form is Format.MARKDOWN:
            _output.write(report.to_markdown(report.plain_table(records)), out)
        else:
            short = [{k: r[k] for k in r if k not in ("paper", "cost")} for r in records]
            notes = [f"{r['name']}: {r['paper']}. Cost: {r['cost']}." for r in records]
            _output.write_page([report.plain_table(short, notes)], out, form)
