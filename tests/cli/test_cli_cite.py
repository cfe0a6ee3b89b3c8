"""`jaxte cite`, `jaxte metrics NAME` and completion: what is printed is what is so."""

import json
import os
import re
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from jaxte import __version__
from jaxte.cli._options import parse_settings
from jaxte.cli.cite import bibtex
from jaxte.metrics import REGISTRY

from .conftest import Run


@pytest.mark.parametrize("name", REGISTRY)
def test_each_metric_is_cited_as_its_record_says(name: str) -> None:
    text = bibtex([name.upper()])
    entries = re.findall(r"author = {(.*)},\n.*?year = {(\d+)}", text, re.S)
    assert entries
    paper = REGISTRY[name].paper
    if paper.startswith("ours") or "Ranked from Within" in paper:
        return
    marks = re.sub(r"\\\W|[{}]", "", text)
    for surname in re.findall(r"([A-Z]\w+) (?:et al|and|in)|^(\w+),", paper):
        assert next(filter(None, surname)) in marks
    said = set(re.findall(r"\b(?:19|20)\d\d\b(?!\.)", paper)) or set(
        re.findall(r"\d{4}\.\d+", paper)
    )
    assert all(one in text for one in said)


def test_each_entry_is_of_something_and_complete() -> None:
    from importlib.resources import files

    from jaxte import baselines, ensemble, metrics, perturb

    text = files("jaxte.metrics").joinpath("references.bib").read_text("utf-8")
    keys = re.findall(r"^@\w+{(\w+),$", text, re.M)
    assert len(set(keys)) == len(keys) == text.count("@")
    assert text.count("{") == text.count("}")
    assert unicodedata.is_normalized("NFC", text)
    assert text.isascii()
    for names in re.findall(r"keywords = {(.*)}", text):
        for name in set(names.split(", ")) - {"jaxte"}:
            assert any(hasattr(room, name) for room in (metrics, perturb, ensemble, baselines)), (
                name
            )


def test_cite_on_the_command_line(run: Run) -> None:
    assert f"version = {{{__version__}}}" in run("cite").stdout
    both = run("cite", "sfda,ped", "SFDA").stdout
    assert re.findall(r"^@\w+{(\w+),", both, re.M) == ["shao2022sfda", "li2023ped"]
    assert "keywords" not in both
    wrong = run("cite", "sdfa")
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (2, 1)
    assert "sfda" in wrong.stderr


def test_what_is_printed_to_copy_can_be_set(run: Run) -> None:
    records = json.loads(run("metrics", "--format", "json").stdout)
    for record in records:
        words = shlex.split(record["on the command line"])
        assert words[::2] == ["--set"] * (len(words) // 2)
        options = parse_settings(words[1::2])
        assert set(options) <= {record["name"]}
        REGISTRY[record["name"]].checked_options(options.get(record["name"], {}))
        assert record["formula"]


def test_shells_complete_commands() -> None:
    asked = {"_JAXTE_COMPLETE": "complete_bash", "COMP_WORDS": "jaxte me", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "from jaxte.cli import app; app(prog_name='jaxte')"]
    done = subprocess.run(
        command, env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["metrics"]


def test_completion_can_be_installed(run: Run) -> None:
    assert "--install-completion" in run("--help").stdout


def test_the_citation_file_and_jaxtes_own_entry_agree() -> None:
    text = (Path(__file__).parents[2] / "CITATION.cff").read_text("utf-8")
    for field in ("title", "author"):
        (said,) = re.findall(rf"{field} = {{+(.*?)}}+,", bibtex())
        assert f'"{said}"' in text
