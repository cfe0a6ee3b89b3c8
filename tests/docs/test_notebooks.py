"""The executed notebooks that lie beside their Markdown: the same cells, and outputs to show."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest

jupytext = pytest.importorskip("jupytext", reason='needs jupytext: pip install "jaxte[test]"')

SOURCES = sorted((Path(__file__).parents[2] / "notebooks").glob("*.md"))
LARGEST = 60_000  # bytes of a picture


def cells_of(path: Path) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def outputs_of(path: Path) -> list[Any]:
    cells = jupytext.read(path).cells
    return [output for cell in cells for output in cell.get("outputs", ())]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_it_was_executed_as_it_is_written(source: Path) -> None:
    executed = source.with_suffix(".ipynb")
    assert cells_of(executed) == cells_of(source), (
        f"run `python .ci/run_notebook.py notebooks/{source.name} notebooks/{executed.name}`"
    )
    outputs = outputs_of(executed)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output.get("name") != "stderr", output.text
        pictures = output.get("data", {})
        assert len(base64.b64decode(pictures.get("image/png", ""))) <= LARGEST
        shown = [str(text) for kind, text in pictures.items() if kind.startswith("text/")]
        assert not re.search(r"/(home|root|tmp|work|usr|var)/", " ".join(shown)), shown
        assert not re.search(r"/(home|root|tmp|work|usr|var)/", output.get("text", ""))
