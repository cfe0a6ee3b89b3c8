"""The snippets of README and pages run as they stand, in order, each page in an empty directory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .readme_blocks import PAGES, README, ROOT, blocks, installs

RUN = {
    page.relative_to(ROOT).as_posix(): [
        (language, code)
        for language, code in blocks(page)
        if language == "python" or (language == "bash" and not installs(language, code))
    ]
    for page in PAGES
}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, snippets in RUN.items() if snippets])
def test_every_snippet_runs(
    page: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXTE_CACHE", str(tmp_path_factory.getbasetemp() / "compiled"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, Any] = {"__name__": "page"}
    for number, (language, code) in enumerate(RUN[page]):
        if language == "python":
            exec(compile(code, f"{page}, block {number}", "exec"), names)
        else:
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
    if page == README.name:
        written = {path.name for path in tmp_path.iterdir()}
        assert written == {"features", "ranking.csv", "ranking.png"}


def test_pages_have_snippets() -> None:
    """Of each kind, so that nothing is left out unnoticed."""
    languages = [language for page in PAGES for language, _ in blocks(page)]
    assert set(languages) == {"bash", "python", "text"}
    assert sum(bool(snippets) for snippets in RUN.values()) >= 11
