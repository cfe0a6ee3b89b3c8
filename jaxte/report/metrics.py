"""What there is to know of a metric, as a record: for `jaxte metrics` and the README's table."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxte.metrics import Metric

# What the table shows; `describe` has more.
SHOWN = ("name", "what it measures", "reads", "targets", "range", "published", "confirmed by")


def describe(metric: Metric) -> dict[str, str]:
    """Everything that a metric's record says, in words.

    Example:
        >>> import jaxte
        >>> from jaxte.report.metrics import describe
        >>> describe(jaxte.metrics.get_metric("hscore"))["published"]
        'Bao et al., ICIP 2019'
    """
    needs = metric.needed({})
    year = re.search(r"\b(?:19|20)\d\d\b", metric.paper)
    options = {name: one.default for name, one in metric.parameters.items() if name != "variant"}
    return {
        "name": metric.name,
        "what it measures": (inspect.getdoc(metric.function) or "").partition("\n")[0].rstrip("."),
        "reads": _reads(metric, needs),
        "targets": "none" if metric.label_free else ", ".join(metric.tasks),
        "range": f"{metric.range[0]:g} to {metric.range[1]:g}",
        "published": metric.paper,
        "year": year.group() if year else "",
        "confirmed by": metric.confirmed or "nothing",
        "passes over the rows": "all at once"
        if "all_rows" in needs
        else str(1 + len(metric.asked({}))),
        "moments suffice": "yes" if metric.moments else "no",
        "invariant to": ", ".join(sorted(metric.invariances)) or "nothing more",
        "options": ", ".join(f"{name}={value!r}" for name, value in options.items()),
        "variants": ", ".join(
            f"{name} (default)" if name == metric.default_variant else name
            for name in metric.variants
        ),
        "cost": metric.cost,
    }


def _reads(metric: Metric, needs: frozenset[str]) -> str:
    if needs & {"logits", "probabilities"}:
        return "outputs of the source head"
    return "features of all layers" if metric.joins_layers else "features"
