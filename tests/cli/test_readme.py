"""The README's snippets run as they stand, in order, in one empty directory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .readme_blocks import blocks, installs


@pytest.mark.slow
def test_every_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, Any] = {}
    ran: list[str] = []
    for language, code in blocks():
        if language == "python":
            exec(compile(code, f"README.md, block {len(ran)}", "exec"), names)
        elif language == "bash" and not installs(language, code):
            subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
        else:
            continue
        ran.append(language)
    assert ran.count("python") >= 3
    assert ran.count("bash") >= 1
    written = {"features", "ranking.csv", "ranking.png", "report", "scores.csv", "stores"}
    assert {path.name for path in tmp_path.iterdir()} == written
