"""A ranking as text, rich table, Markdown, HTML, CSV or JSON, all from one table of cells."""

from __future__ import annotations

import html
import math
import textwrap
from itertools import accumulate, chain, pairwise, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxte.metrics.options import percent
from jaxte.report.provenance import sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.text import Text

    from jaxte.ranking import Ranking

_ABSENT = "–"
_GAP = "  "
_LATEX = {
    **{one: f"\\{one}" for one in "#$%&_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "<": r"\textless{}", ">": r"\textgreater{}", "\n": " ",
}  # fmt: skip


class Cell(NamedTuple):
    """One cell as it is shown; `best` marks the winner of a metric, `faint` what failed."""

    text: str
    best: bool = False
    faint: bool = False

    def styled(self, best: str, faint: str) -> str:
        """One of two styles, or none."""
        return best if self.best else faint if self.faint else ""


class Table(NamedTuple):
    """What every form shows: columns, rows of cells, and the sentences under them.

    `align` has a `<` or `>` for each column. `blocks` says which columns belong together (a score
    and its rank), so that a narrow page breaks between them; the first block names the rows.
    """

    columns: tuple[str, ...]
    align: str
    blocks: tuple[tuple[int, ...], ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: str = ""


def table(
    ranking: Ranking,
    *,
    order: Sequence[str] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    footer: tuple[str, Mapping[str, float]] | None = None,
    problems: Mapping[str, str] | None = None,
) -> Table:
    """Lay a ranking out: one row per model, a score and a rank per metric.

    Where known, half the 90 % interval stands beside the score, p, and the chance to be the best.

    Args:
        ranking: what `jaxte.rank` returned.
        order: the models from top to bottom; by default as the first metric orders them.
        columns: further columns after the model's name, heading -> model -> text.
        footer: a closing row: its heading, and metric -> number.
        problems: models that never reached the ranking, with the reason.

    Returns:
        A `Table`, which `to_text`, `to_rich`, `to_markdown` and `to_html` accept as a ranking.

    Example:
        >>> import jax, jaxte
        >>> x, y = jax.random.normal(jax.random.key(0), (90, 8)), jax.numpy.arange(90) % 3
        >>> models = {"blind": x, "sighted": x.at[:, 0].add(3.0 * y)}
        >>> ranking = jaxte.rank(models, y, metrics="logme")
        >>> shown = table(ranking, columns={"size": {"blind": "8 kB"}})
        >>> [row[0].text for row in shown.rows], shown.columns
        (['sighted', 'blind'], ('model', 'size', 'logme', '#'))
    """
    columns, problems = columns or {}, problems or {}
    records = ranking.to_records()
    ranks = {(r["model"], r["metric"]): r["rank"] for r in records}
    first = [r["metric"] for r in records if r["rank"] == 1]  # of a tie none is marked
    tested = {r["metric"] for r in records if "p_value" in r}
    known = {r["metric"] for r in records if "p_best" in r}
    likely = set(filter(ranking.p_best, known))
    beside = {"+/-": known, "#": ranking.metrics, "p": tested, "best": likely}
    heads = [(m, *(head for head, where in beside.items() if m in where)) for m in ranking.metrics]

    def cells(model: str, metric: str) -> Iterator[Cell]:
        """Of one score, as its heads say."""
        place = None if model in problems else ranks[model, metric]
        none, best = place is None, place == 1 and first.count(metric) == 1
        chance = interval = None
        if not none:
            chance, interval = ranking.chance(model, metric), ranking.interval(model, metric)
        yield Cell(_ABSENT if none else _number(ranking.score(model, metric)), best, faint=none)
        if metric in known:
            yield Cell("" if interval is None else _number((interval.hi - interval.lo) / 2))
        yield Cell("" if none else str(place), best)
        if metric in tested:
            yield Cell("" if chance is None else f"{chance.p_value:.3f}")
        if metric in likely:
            yield Cell("" if interval is None else percent(interval.p_best))

    def line(model: str) -> tuple[Cell, ...]:
        scored = model not in problems and any(ranks[model, m] for m in ranking.metrics)
        row = [Cell(" ".join(model.splitlines()), faint=not scored)]
        row += [Cell(texts.get(model, _ABSENT)) for texts in columns.values()]
        row += [cell for metric in ranking.metrics for cell in cells(model, metric)]
        return tuple(row)

    top = list(ranking.order(ranking.metrics[0]) if order is None else order)
    models = [*top, *(m for m in ranking.models if m not in top), *problems]
    names = 1 + len(columns)
    ends = list(accumulate(map(len, heads), initial=names))
    closing: list[str] = []
    if footer is not None:
        values = [footer[1].get(metric, math.nan) for metric in ranking.metrics]
        texts = [f"{value:.3f}" if math.isfinite(value) else _ABSENT for value in values]
        closing = [footer[0], *[""] * len(columns)]
        for text, head in zip(texts, heads, strict=True):
            closing += [text, *[""] * (len(head) - 1)]
    return Table(
        columns=("model", *columns, *chain.from_iterable(heads)),
        align="<" + ">" * (ends[-1] - 1),
        blocks=(tuple(range(names)), *(tuple(range(*pair)) for pair in pairwise(ends))),
        rows=tuple(line(model) for model in models),
        footer=tuple(closing),
        failures=tuple(_failures(ranking, problems)),
        notes=tuple(ranking.notes),
        provenance=sentence(ranking.meta),
    )


def plain_table(records: Sequence[Mapping[str, Any]], notes: Iterable[str] = ()) -> Table:
    """A table of records that all have the same keys; numbers stand right, everything else left."""
    columns = tuple(records[0])
    return Table(
        columns=columns,
        align="".join(">" if isinstance(records[0][key], int | float) else "<" for key in columns),
        blocks=tuple((i,) for i in range(len(columns))),
        rows=tuple(tuple(Cell(str(r[key])) for key in columns) for r in records),
        notes=tuple(notes),
    )


def _number(score: float) -> str:
    """Four decimals where they say something, four digits where they do not."""
    size = abs(score)
    if not math.isfinite(score) or size >= 1000:
        return f"{score:.4g}"
    return "0.0000" if size < 1e-9 else f"{score:.1e}" if size < 5e-4 else f"{score:.4f}"


def _failures(ranking: Ranking, problems: Mapping[str, str]) -> Iterable[str]:
    """One sentence per model and reason, naming the metrics only where some did succeed."""
    for model in ranking.models:
        reasons: dict[str, list[str]] = {}
        for metric in ranking.metrics:
            status = ranking.status(model, metric)
            if status != "ok":
                reasons.setdefault(status, []).append(metric)
        for reason, metrics in reasons.items():
            where = "" if len(metrics) == len(ranking.metrics) else f" ({', '.join(metrics)})"
            yield f"{model}{where}: {reason}"
    yield from (f"{model}: {reason}" for model, reason in problems.items())


def _laid_out(source: Ranking | Table) -> tuple[Table, list[tuple[str, str, tuple[str, ...]]]]:
    """The table, and the sentences under it with their heading and its style, if there are any."""
    content = source if isinstance(source, Table) else table(source)
    both = (("not scored", "red", content.failures), ("notes", "yellow", content.notes))
    return content, [section for section in both if section[2]]


def to_text(source: Ranking | Table, *, width: int = 80) -> str:
    """The table in plain characters, `*` marking the best score of each metric.

    Metrics that do not fit in `width` columns follow below, again with the names of the models.
    """
    return "".join(text for text, _ in _spans(source, width))


def to_rich(source: Ranking | Table, *, width: int = 80) -> Text:
    """The same characters as `to_text`, in colour; `rich` is imported here and not before."""
    from rich.text import Text

    return Text.assemble(*_spans(source, width), no_wrap=True, overflow="ignore")


def _spans(source: Ranking | Table, width: int) -> Iterator[tuple[str, str]]:
    """The page as pieces of text, each with its style."""
    content, sections = _laid_out(source)
    grid = [[(text, "bold") for text in content.columns]]
    for row in content.rows:
        marks = ("*" if cell.best and not cell.text.isdigit() else "" for cell in row)
        texts = (mark + cell.text for mark, cell in zip(marks, row, strict=True))
        styles = (cell.styled("bold green", "dim") for cell in row)
        grid.append(list(zip(texts, styles, strict=True)))
    if content.footer:
        grid.append([(text, "bold") for text in content.footer])
    widths = [max(len(line[i][0]) for line in grid) for i in range(len(content.columns))]
    for number, shown in enumerate(_pages(content.blocks, widths, width)):
        rule = "-" * (sum(widths[i] + len(_GAP) for i in shown) - len(_GAP))
        if number:
            yield "\n", ""
        for at, line in enumerate(grid):
            if at == 1 or (content.footer and at == len(grid) - 1):
                yield f"{rule}\n", "dim"
            last = max(i for i in shown if line[i][0])  # nothing to align after it
            for i in shown[: shown.index(last) + 1]:
                text, style = line[i]
                pad = " " * (widths[i] - len(text))
                right = content.align[i] == ">"
                yield (_GAP if i else "") + (pad if right else ""), ""
                yield text, style
                yield "" if right or i == last else pad, ""
            yield "\n", ""
    for heading, style, sentences in sections:
        yield f"\n{heading}:\n", style
        for one in sentences:
            yield textwrap.indent(textwrap.fill(one, width - 4), "    ")[2:] + "\n", ""


def _pages(
    blocks: tuple[tuple[int, ...], ...], widths: list[int], width: int
) -> Iterator[list[int]]:
    """Which columns stand on each page: the names, and as many blocks as fit beside them."""
    names, *metrics = blocks
    page = list(names)
    for block in metrics:
        needed = sum(widths[i] + len(_GAP) for i in [*page, *block]) - len(_GAP)
        if len(page) > len(names) and needed > width:
            yield page
            page = [names[0]]
        page += block
    yield page


def to_markdown(source: Ranking | Table) -> str:
    """The table in Markdown, the best score of each metric in bold, notes as a list under it."""
    content, sections = _laid_out(source)

    def line(texts: Iterable[str], best: Iterable[bool] = repeat(False)) -> str:
        cells = (t.replace("\\", r"\\").replace("|", r"\|").replace("\n", " ") for t in texts)
        return (
            f"| {' | '.join(f'**{c}**' if b else c for c, b in zip(cells, best, strict=False))} |"
        )

    lines = [line(content.columns)]
    lines.append(line(":--" if side == "<" else "--:" for side in content.align))
    lines += [line((c.text for c in row), (c.best for c in row)) for row in content.rows]
    lines += [line(content.footer)] if content.footer else []
    for heading, _, sentences in sections:
        lines += ["", f"{heading.capitalize()}:", "", *(f"- {s}" for s in sentences)]
    lines += ["", f"*{content.provenance}*"] if content.provenance else []
    return "\n".join(lines) + "\n"


def to_latex(source: Ranking | Table) -> str:
    r"""The table as a LaTeX tabular of the package booktabs, the best scores in bold.

    Notes and where the scores come from stand above it as comments.
    """
    content, sections = _laid_out(source)
    said = [one for _, _, sentences in sections for one in sentences]
    comments = [f"% {' '.join(one.split())}" for one in (content.provenance, *said) if one]

    def line(cells: Iterable[tuple[str, bool]]) -> str:
        texts = (rf"\textbf{{{_latex(text)}}}" if best else _latex(text) for text, best in cells)
        return " & ".join(texts) + r" \\"

    foot = [r"\midrule", line((t, False) for t in content.footer)] if content.footer else []
    body = [line((one.text, one.best) for one in row) for row in content.rows]
    columns = content.align.replace("<", "l").replace(">", "r")
    return "\n".join(
        [*comments, rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
         line((text, False) for text in content.columns), r"\midrule", *body, *foot,
         r"\bottomrule", r"\end{tabular}", ""]
    )  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(one, one) for one in text)


def to_html(source: Ranking | Table) -> str:
    """The table in HTML for notebooks; names and reasons are escaped."""
    content, sections = _laid_out(source)

    def line(cells: Iterable[tuple[str, str]], tag: str) -> str:
        inner = "".join(
            f'<{tag} style="text-align:{"left" if side == "<" else "right"};{style}">'
            f"{html.escape(text)}</{tag}>"
            for side, (text, style) in zip(content.align, cells, strict=True)
        )
        return f"<tr>{inner}</tr>"

    style = ("font-weight:bold", "opacity:0.55")
    body = [line(((one.text, one.styled(*style)) for one in row), "td") for row in content.rows]
    head = line(((text, "") for text in content.columns), "th")
    foot = line(((text, "") for text in content.footer), "th") if content.footer else ""
    parts = [f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody>"]
    parts.append(f"<tfoot>{foot}</tfoot></table>" if foot else "</table>")
    for heading, _, sentences in sections:
        items = "".join(f"<li>{html.escape(s)}</li>" for s in sentences)
        parts.append(f'<p style="margin-bottom:0">{heading}</p><ul>{items}</ul>')
    if content.provenance:
        parts.append(f'<p style="opacity:0.55">{html.escape(content.provenance)}</p>')
    return "".join(parts)
