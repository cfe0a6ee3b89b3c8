"""How rankings are shown: as tables of every form, and as pictures (`jaxte.report.plots`)."""

from jaxte.report.files import csv_text, json_text, to_csv, to_json, written
from jaxte.report.tables import (
    Cell,
    Table,
    plain_table,
    table,
    to_html,
    to_latex,
    to_markdown,
    to_rich,
    to_text,
)

__all__ = [
    "Cell",
    "Table",
    "csv_text",
    "json_text",
    "plain_table",
    "table",
    "to_csv",
    "to_html",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_rich",
    "to_text",
    "written",
]
