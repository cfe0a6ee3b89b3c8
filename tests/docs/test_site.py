"""What the documentation is made of: every public name once, every metric, every result."""

import functools
import importlib.util
import inspect
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import jaxte
from jaxte.metrics import REGISTRY

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
pytest.importorskip("mkdocs", reason='needs MkDocs: pip install "jaxte[docs]"')


@functools.cache
def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    made = loaded("pages").generated()
    return {path: text for path, text in made.items() if isinstance(text, str)}


def test_every_public_name_is_described_once(pages: dict[str, str]) -> None:
    text = "\n".join(pages.values())
    described = Counter(re.findall(r"heading: (jaxte\S+)", text))
    assert set(described.values()) == {1}
    rooms = [name for name in jaxte.__all__ if isinstance(getattr(jaxte, name), ModuleType)]
    links = set(re.findall(r"^`(\w+)` is \[`jaxte", text, re.M))
    for room in rooms:
        names = getattr(getattr(jaxte, room), "__all__", None)
        for name in names if names is not None else loaded("pages").public("metrics"):
            assert f"jaxte.{room}.{name}" in described or name in links, (room, name)
    for name in {*set(jaxte.__all__).difference(rooms, ["__version__"]), "race"}:
        assert f"jaxte.{name}" in described


def test_every_metric_has_a_page_with_its_function(pages: dict[str, str]) -> None:
    for name, metric in REGISTRY.items():
        page = pages[f"metrics/{name}.md"]
        function = metric.function
        assert f"::: {function.__module__}.{function.__qualname__}\n" in page
        assert metric.paper in page
        assert f"| [{name}](metrics/{name}.md) |" in pages["index.md"]
        assert "@" in page.partition("## Cite")[2]
        for option in metric.parameters:
            assert option in page


def test_results_are_in_the_navigation() -> None:
    module = loaded("pages")
    shown = {path.relative_to(module.ROOT / "benchmarks" / "results") for path in module.results()}
    assert {path.as_posix() for path in shown if path.suffix == ".md"} == set(module.RESULTS)


def test_links_lead_to_pages() -> None:
    relinked = loaded("pages").relinked
    assert relinked("[a](CONTRIBUTING.md#x)", "README.md") == "[a](contributing.md#x)"
    home = relinked("![](../../../benchmarks/results/x.png)", "notebooks/site/guide/zoo.md")
    assert home == "![](../../../benchmarks/results/x.png)"  # there is no such file
    guide = relinked("[a](../../01_quickstart.md)", "notebooks/site/guide/zoo.md")
    assert guide == "[a](../notebooks/01_quickstart.md)"


def test_formulas_become_those_of_markdown() -> None:
    markdown = loaded("docstrings").markdown
    text = (
        "Of :math:`a_i`.\n\n.. math:: a\n    + b\n\n    + c\n\nExample:\n    >>> 1\n\nReferences: B"
    )
    assert markdown(text) == (
        "Of $a_i$.\n\n$$\na + b + c\n$$\n\nExamples:\n    >>> 1\n\n**References:** B"
    )


def test_functions_stand_apart_in_formulas() -> None:
    pages = loaded("pages")
    for source, shown in {
        r"p_c \ln p_c": r"p_c\, \ln\, p_c",
        r"\tfrac{\mathrm{tr} S}{d}": r"\tfrac{\mathrm{tr}\, S}{d}",
        r"\ln\lambda": r"\ln\, \lambda",
        r"\exp\left(a\right) + \ln(b)": r"\exp\left(a\right) + \ln(b)",
        r"\mathrm{tr}\, S": r"\mathrm{tr}\, S",
    }.items():
        assert pages.APART.sub(pages.spaced, source) == shown
    assert pages.mathml(r"\ln N", "inline").count("<mspace") == 1


def test_every_formula_can_be_shown() -> None:
    shown = 0
    for file in sorted(Path(jaxte.__file__).parent.rglob("*.py")):
        for text in re.findall(r'"""(.*?)"""', file.read_text("utf-8"), re.S):
            markdown = loaded("docstrings").markdown(inspect.cleandoc(text))
            for display, inline in re.findall(r"\$\$\n(.*?)\n *\$\$|\$([^$\n]+)\$", markdown):
                formula = loaded("pages").mathml(display or inline, "block")
                assert formula.startswith("<math")
                assert "\\" not in re.sub(r"<[^>]*>", "", formula)
                shown += 1
    assert shown > 2 * len(REGISTRY)
