"""Execute a notebook kept as Markdown and save it with its outputs; the first error ends it.

The pair of notebooks/NAME.md is notebooks/NAME.ipynb, made in the same way.
"""

import base64
import io
import sys

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image


def smaller(png):
    """A picture in 128 colours, a half of the bytes."""
    stream = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(128, Image.Quantize.MAXCOVERAGE).save(stream, "png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


source, executed = sys.argv[1:]
notebook = jupytext.read(source)
for number, cell in enumerate(notebook.cells):
    cell.id = f"cell-{number}"  # not drawn anew each time
NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", ()):
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = smaller(output.data["image/png"])
nbformat.write(notebook, executed)
