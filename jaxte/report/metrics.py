"""What there is to know of a metric, as a record: for `jaxte metrics` and the README's table."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxte.metrics import Metric

# What the table shows; `describe` has more.
SHOWN = ("name", "what it measures", "reads", "targets", "published")


def describe(metric: Metric) -> dict[str, str]:
    """Everything that a metric's record says, in words.

    Example:
        >>> import jaxte
        >>> from jaxte.report.metrics import describe
        >>> describe(jaxte.metrics.get_metric("hscore"))["published"]
        'Bao et al., ICIP 2019'
    """
    needs = metric.needed({})
    year = re.search(r"\b((?:19|20)\d\d)\b(?!\.)|arXiv (\d\d)", metric.paper)
    options = {name: one.default for name, one in metric.parameters.items() if name != "variant"}
    text = inspect.getdoc(metric.function) or ""
    return {
        "name": metric.name,
        "what it measures": text.partition("\n")[0].rstrip("."),
        "formula": _formula(text),
        "reads": _reads(metric, needs),
        "targets": "none" if metric.label_free else ", ".join(metric.tasks),
        "range": f"{metric.range[0]:g} to {metric.range[1]:g}",
        "published": metric.paper,
        "year": (year[1] or f"20{year[2]}") if year else "",
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
        "on the command line": _settings(metric),
        "cost": metric.cost,
    }


def _formula(text: str) -> str:
    """The formulas of a docstring, before its sections, as LaTeX on one line each."""
    before = re.split(r"^(?:Args|Returns|References):", text, maxsplit=1, flags=re.M)[0]
    formulas = re.findall(r"^\.\. math:: *(.*(?:\n(?: +.*)?)*)", before, re.M)
    return " ;  ".join(" ".join(one.split()) for one in formulas)


def _settings(metric: Metric) -> str:
    """Its options as `jaxte rank` takes them: another variant, the others at their defaults."""
    shown = []
    for name, one in metric.parameters.items():
        value = one.default
        if name == "variant":
            value = next(v for v in metric.variants if v != metric.default_variant)
        elif value == "none":  # which alone would be None
            value = """'"none"'"""
        if not isinstance(value, tuple):
            shown.append(f"--set {metric.name}.{name}={value}")
    return " ".join(shown)


def _reads(metric: Metric, needs: frozenset[str]) -> str:
    if needs & {"logits", "probabilities"}:
        return "outputs of the source head"
    return "features of all layers" if metric.joins_layers else "features"
