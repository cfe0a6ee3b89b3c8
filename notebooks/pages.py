"""The pages of the site that are made of something else: README, notebooks, registry, results.

A hook of MkDocs. `generated` says what there is; links between files of the repository become
links between pages.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import latex2mathml.converter
import nbformat
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import jaxte  # noqa: E402
from jaxte.cli.cite import bibtex  # noqa: E402
from jaxte.metrics import REGISTRY, Metric  # noqa: E402
from jaxte.report.metrics import describe  # noqa: E402

ROOMS = (
    *("metrics", "perturb", "evaluate", "race", "store", "data", "extraction", "moments"),
    *("ensemble", "baselines", "zoo", "zoo.benchmark", "zoo.encoders", "report", "report.plots"),
    *("ranking.curve", "ranking.shortlist"),
)
# Files of the repository that are pages or pictures under another name.
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "jaxte/CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "card.md",
}
RESULTS = {
    "nvidia-h200/device.md": "An H200",
    "nvidia-h100/device.md": "An H100",
    "cpu-2-cores-goal/device.md": "An H100's pool on two CPU cores",
    "cpu-2-cores/results.md": "Two CPU cores",
    "cpu-2-cores-released-large/results.md": "Against released code, large",
    "cpu-2-cores-released-small/results.md": "Against released code, small",
    "cpu-2-cores-float32/results.md": "In float32",
    "cpu-2-cores-together/results.md": "All metrics together",
    "headline/headline.md": "The published claims",
    "ensembles/ensembles.md": "Ensembles",
    "coverage.md": "What intervals cover",
    "costs-of-trust.md": "What intervals cost",
    "shortlist.md": "Shortlists",
    "account.md": "What each metric cannot do without",
}


# --- what is public ------------------------------------------------------------------------------


def _in_use(name: str) -> int:
    """The place of a name of the package itself: in the order in which users need them."""
    first = ("rank", "Ranking", "extract", "stream", "FeatureStore", "race", "shortlist")
    return first.index(name) if name in first else len(first)


def public(room: str) -> dict[str, Any]:
    """The public names of a room, "" for the package itself, and what they are."""
    module = importlib.import_module(f"jaxte.{room}".rstrip("."))
    if room != "metrics":
        names = module.__all__
    else:  # each of its files says what is public
        files = [sys.modules[name] for name in sys.modules if name.startswith("jaxte.metrics.")]
        names = sorted(
            {n for file in files for n in getattr(file, "__all__", ()) if n in vars(module)}
        )
    members = {name: getattr(module, name) for name in names}
    if room == "":  # a room that is called as a function
        members["race"] = jaxte.race.__call__
        members = {name: members[name] for name in sorted(members, key=_in_use)}
    hidden = (ModuleType, Metric) if room else (ModuleType, str)  # records are REGISTRY's
    return {name: one for name, one in members.items() if not isinstance(one, hidden)}


def directive(room: str, name: str, one: Any) -> str:
    """What mkdocstrings makes the entry of a public name of."""
    shown = f"jaxte.{room}.{name}" if room else f"jaxte.{name}"
    defined = inspect.isclass(one) or inspect.isfunction(one)  # else a constant
    path = f"{one.__module__}.{one.__qualname__}" if defined else shown
    options = {
        "heading": shown,
        "toc_label": name,
        "show_if_no_docstring": str(not defined).lower(),
    }
    lines = [f"      {key}: {value}" for key, value in options.items()]
    return "\n".join([f"::: {path}", "    options:", *lines])


def metric_of(name: str) -> str | None:
    """The metric on whose page a public function of `jaxte.metrics` is described."""
    of = [one for one in REGISTRY if name == one or name.startswith(f"{one}_")]
    return max(of, key=len, default=None)


# --- pages ---------------------------------------------------------------------------------------


def metric_page(metric: Metric) -> str:
    """All that is known of one metric."""
    record = describe(metric)
    rows = [f"| {key} | {cell(value)} |" for key, value in record.items() if value and key in FACTS]
    own = {k: v for k, v in public("metrics").items() if metric_of(k) == metric.name}
    functions = sorted(own, key=lambda name: (name != metric.name, name))
    parts = [
        f"# {metric.name}",
        f"{record['what it measures']}.",
        "| | |\n| :-- | :-- |\n" + "\n".join(rows),
        SYMBOLS,
        f"```bash\njaxte rank features --metrics {metric.name}\n```",
    ]
    if record["on the command line"]:
        parts += ["All options, to copy:", f"```text\n{record['on the command line']}\n```"]
    parts += [directive("metrics", name, own[name]) for name in functions]
    parts += ["## Cite", f"```bibtex\n{bibtex([metric.name])}```"]
    return "\n\n".join(parts)


SYMBOLS = (
    "In formulas and cost n is the number of rows (samples), d the width of the features and "
    "C the number of classes; in the cost k = min(n, d)."
)
FACTS = (
    *("published", "reads", "targets", "range", "invariant to", "options", "variants", "cost"),
    *("passes over the rows", "moments suffice", "confirmed by"),
)
COLUMNS = ("name", "what it measures", "reads", "targets", "published", "confirmed by")


def metrics_table() -> str:
    """The table of all metrics, each name a link to its page."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join([":--"] * len(COLUMNS)) + " |"]
    for metric in REGISTRY.values():
        record = {**describe(metric), "name": f"[{metric.name}]({metric.name}.md)"}
        lines.append("| " + " | ".join(cell(record[key]) for key in COLUMNS) + " |")
    return "\n".join(lines)


def metrics_linked(text: str) -> str:
    """A text whose rows of a table that begin with a metric lead to its page."""
    return re.sub(
        r"^\| (\w+) \|",
        lambda row: f"| [{row[1]}](metrics/{row[1]}.md) |" if row[1] in REGISTRY else row[0],
        text,
        flags=re.M,
    )


def reference_page(room: str) -> str:
    """Every public name of a room."""
    module = importlib.import_module(f"jaxte.{room}".rstrip("."))
    parts = [f"# {module.__name__}", (module.__doc__ or "").strip()]
    if room == "race":  # whose text says what its constants were chosen by
        parts[1] = "What comes of [`jaxte.race`](index.md#jaxte.race.race.race), and what it takes."
    if room == "metrics":
        parts.append("The metrics themselves have [pages of their own](../metrics/index.md).")
    top = public("")
    for name, one in public(room).items():
        if room and top.get(name) is one:
            parts.append(f"`{name}` is [`jaxte.{name}`](index.md#{one.__module__}.{name}).")
        elif room != "metrics" or metric_of(name) is None:
            parts.append(directive(room, name, one))
    return "\n\n".join(parts)


def notebook_page(source: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook and its pictures, as it was executed where JAXTE_EXECUTED says, else without."""
    executed = Path(os.environ.get("JAXTE_EXECUTED", HERE)) / f"{source.stem}.ipynb"
    notebook = nbformat.read(executed, 4) if executed.is_file() else jupytext.read(source)
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, {"unique_key": source.stem, "output_files_dir": source.stem}
    )
    text = re.sub(r"<style scoped>.*?</style>", "", text, flags=re.S)  # of data frames
    return text.replace('<table border="1" class="dataframe">', "<table>"), resources["outputs"]


def cell(text: str) -> str:
    """Text of a cell of a table."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


@functools.cache
def generated() -> dict[str, str | bytes]:
    """Path in the site and content of every page and picture that is made here."""
    files: dict[str, str | bytes] = {}
    for source, page in MOVED.items():
        files[page] = metrics_linked(relinked((ROOT / source).read_text("utf-8"), source))
    for source in results():
        path = source.relative_to(ROOT).as_posix()
        text = source.suffix == ".md"
        files[path] = source.read_text("utf-8") if text else source.read_bytes()
    for source in sorted(HERE.glob("*.md")):
        text, pictures = notebook_page(source)
        files[f"notebooks/{source.name}"] = relinked(text, f"notebooks/{source.name}")
        files |= {f"notebooks/{name}": picture for name, picture in pictures.items()}
    files |= {f"metrics/{metric.name}.md": metric_page(metric) for metric in REGISTRY.values()}
    files["reference/index.md"] = reference_page("")
    files |= {f"reference/{room}.md": reference_page(room) for room in ROOMS}
    return files


def results() -> Iterator[Path]:
    """The committed tables of the benchmarks, and their pictures."""
    for source in sorted((ROOT / "benchmarks" / "results").rglob("*")):
        if source.suffix in (".md", ".png"):
            yield source


def relinked(text: str, source: str) -> str:
    """A text of the repository whose links to its other files lead to their pages."""
    page = site_path(source)

    def link(match: re.Match[str]) -> str:
        target, mark, anchor = match[1].partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not target or "://" in target or not (ROOT / file).exists():
            return match[0]
        return (
            f"]({posixpath.relpath(site_path(file), posixpath.dirname(page) or '.')}{mark}{anchor})"
        )

    return re.sub(r"\]\(([^)\s]+)\)", link, text)


def site_path(file: str) -> str:
    """Where a file of the repository lies in the site."""
    return MOVED.get(file, file.removeprefix("notebooks/site/"))


# --- events of MkDocs ----------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Fill in the parts of the navigation that follow from what there is."""
    filled = {
        "NOTEBOOKS": [f"notebooks/{one.name}" for one in sorted(HERE.glob("*.md"))],
        "METRICS": ["metrics/index.md", *(f"metrics/{name}.md" for name in REGISTRY)],
        "REFERENCE": [
            {"jaxte": "reference/index.md"},
            *({f"jaxte.{room}": f"reference/{room}.md"} for room in ROOMS),
        ],
        "BENCHMARKS": [
            "benchmarks.md",
            *({title: f"benchmarks/results/{path}"} for path, title in RESULTS.items()),
        ],
    }
    for part in config["nav"]:
        for title, pages in part.items():
            if isinstance(pages, str) and pages in filled:
                part[title] = filled[pages]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add what is generated."""
    for path, content in generated().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the written pages link to files of the repository, and have the table of metrics."""
    if page.file.generated_by is not None:
        return markdown
    text = relinked(markdown, f"notebooks/site/{page.file.src_uri}")
    return text.replace("<!-- the table of all metrics -->", metrics_table())


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as MathML, which browsers show without any help."""

    def formula(match: re.Match[str]) -> str:
        display = "block" if match[1] == "div" else "inline"
        source = re.sub(r"&lt;", "<", re.sub(r"&gt;", ">", match[2])).replace("&amp;", "&")
        return f"<{match[1]} class='formula'>{mathml(source.strip(), display)}</{match[1]}>"

    return re.sub(
        r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', formula, html, flags=re.S
    )


# What the converter lacks, and what does instead.
UNKNOWN = {r"\bigl\|": r"\left\|", r"\bigr\|": r"\right\|", r"\arg": r"\operatorname{arg}"}
# Functions named in letters, which stand apart from what is beside them, unless that is a bracket.
WORDS = r"\\(?:ln|log|exp)(?![a-z])|\\mathrm\{(?:tr|rank)\}"
APART = re.compile(
    rf"(?P<before>(?<=[\w}}]) *)?(?P<word>{WORDS})(?P<after> *(?=\w|\\(?!left|big)[a-zA-Z]))?"
)


def spaced(word: re.Match[str]) -> str:
    """Such a function with thin spaces around it."""
    before, after = (r"\, " if word[side] is not None else "" for side in ("before", "after"))
    return before + word["word"] + after


def mathml(source: str, display: str) -> str:
    """One formula."""
    known = APART.sub(spaced, source.replace("Big", "big"))
    for command, instead in UNKNOWN.items():
        known = known.replace(command, instead)
    return latex2mathml.converter.convert(known, display=display)
