"""Docstrings as the site wants them: the formulas of reStructuredText as those of Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe


def markdown(text: str) -> str:
    """A docstring with ``.. math::`` and ``:math:`` as ``$$`` and ``$``, sections as it has them.

    >>> markdown("Sum :math:`a_i` of")
    'Sum $a_i$ of'
    """
    text = re.sub(
        r"^( *)\.\. math:: *(.*(?:\n(?: *\n)?\1 +.*)*)",
        lambda one: f"{one[1]}$$\n{one[1]}{' '.join(one[2].split())}\n{one[1]}$$",
        text,
        flags=re.M,
    )
    text = re.sub(r":math:`([^`]*)`", lambda one: f"${' '.join(one[1].split())}$", text)
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    return re.sub(r"^References:\s+", "**References:** ", text, flags=re.M)


class Formulas(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
