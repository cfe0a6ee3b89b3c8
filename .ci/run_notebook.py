"""Execute a notebook kept as Markdown and save it with its outputs; the first error ends it.

The pair of notebooks/NAME.md is notebooks/NAME.ipynb, made in the same way.
"""

import sys

import jupytext
import nbformat
from nbclient import NotebookClient

source, executed = sys.argv[1:]
notebook = jupytext.read(source)
for number, cell in enumerate(notebook.cells):
    cell.id = f"cell-{number}"  # not drawn anew each time
NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
nbformat.write(notebook, executed)
