"""Execute a notebook kept as Markdown and save it with its outputs; the first error ends it."""

import sys

import jupytext
import nbformat
from nbclient import NotebookClient

source, executed = sys.argv[1:]
notebook = jupytext.read(source)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, executed)
