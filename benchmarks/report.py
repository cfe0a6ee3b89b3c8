"""The Markdown of a run, made from its JSON alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.contestants import GRAM
from benchmarks.extraction import AGAINST
from benchmarks.stats import summary

Row = Mapping[str, Any]
_NONE = "–"
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def markdown(whole: Mapping[str, Any]) -> str:
    """Every section that was measured, in the order of the commands."""
    writers = {"metrics": _metrics, "pool": _pool, "growth": _growth, "extraction": _extraction}
    writers |= {"together": _together, "grid": _grid, "memory": _disk}
    parts = ["# Benchmarks", ""]
    described: Any = None
    for name, write in writers.items():
        if name in whole:
            section = whole[name]
            parts += [f"## {name}", ""]
            if section["machine"] != described:
                parts += _described(section["machine"])
            described = section["machine"]
            parts += [*_setting(section), *write(section), *_skipped(section)]
    return "\n".join(parts).rstrip() + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, the first column to the left and all others to the right."""
    cells = [[text.replace("|", "\\|") for text in row] for row in rows]
    ruler = [":--", *["--:"] * (len(header) - 1)]
    return ["| " + " | ".join(line) + " |" for line in [list(header), ruler, *cells]] + [""]


def seconds(value: float | None) -> str:
    """Three digits in the unit that fits."""
    if value is None:
        return _NONE
    unit, name = next((u for u in _UNITS if value >= u[0]), _UNITS[-1])
    return f"{value / unit:.3g} {name}" if value / unit < 1000 else f"{value / unit:.0f} {name}"


def spread(runs: Sequence[float]) -> str:
    """Median [least..largest], the three in one unit."""
    if not runs:
        return _NONE
    statistics = summary(runs)
    unit, name = next((u for u in _UNITS if statistics.median >= u[0]), _UNITS[-1])
    shown = [f"{v / unit:.3g}" if v / unit < 1000 else f"{v / unit:.0f}" for v in statistics]
    return f"{shown[0]} [{shown[1]}..{shown[2]}] {name}"


def size(value: float | None) -> str:
    """Bytes in MiB."""
    return _NONE if value is None else f"{value / 2**20:.0f} MiB"


def ratio(value: float, other: float) -> str:
    """How many times the other."""
    if not other or not math.isfinite(value / other):
        return _NONE
    times = value / other
    return f"{times:.0f}×" if times >= 100 else f"{times:.3g}×"


def _number(value: float | None, form: str = ".6f") -> str:
    return _NONE if value is None else format(value, form)


def _memory(row: Row, part: str) -> str:
    memory = row.get("memory")
    if not memory:
        return _NONE
    if part == "device":
        return size(memory["device"]["peak"]) if memory["device"] else _NONE
    return size(memory[part])


def _described(here: Row) -> Iterator[str]:
    ram = "" if here["ram"] is None else f", {here['ram'] / 2**30:.0f} GiB"
    device = "" if here["platform"] == "cpu" else f"; {here['device']}"
    yield f"- {here['cpu']}, usable cores: {here['cores']}{ram}{device}; {here['os']}"
    yield "- " + ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    threads = " ".join(f"{name}={value}" for name, value in here["threads"].items())
    yield f"- threads: {threads or 'no setting'}"
    yield f"- commit {here['commit'] or 'unknown'}{' with changes' if here['changed'] else ''}"
    for name, commit in here["clones"].items():
        yield f"- clone {name}: {commit or 'unknown commit'}"


def _setting(section: Row) -> Iterator[str]:
    chosen = section["settings"]
    yield (
        f"- {section['started']}; up to {chosen['repeats']} runs each, in turns; inputs "
        f"{chosen['kind']}, seed {chosen['seed']}; median [least..largest]"
    )
    yield ""


def _skipped(section: Row) -> Iterator[str]:
    yield from (f"- {line}" for line in section.get("skipped", []))
    if section.get("skipped"):
        yield ""


def _metrics(section: Row) -> Iterator[str]:
    yield (
        "Difference: the rival's score minus that of the jaxte row named in `compare`. Ratio: the "
        "rival's time over that row's. × Gram: time over that of one product X'X of the same "
        "dtype. Memory: how far the process rose above what it held before the run, and its peak."
    )
    yield ""
    order = ("metric", "dtype")
    rows = sorted(section["rows"], key=lambda row: [row[key] for key in order])
    for (metric, dtype), group in groupby(rows, key=lambda row: [row[key] for key in order]):
        yield f"### {metric}, {dtype}"
        yield ""
        members = list(group)
        header = [*("who", "n", "d", "C", "compare", "score", "difference", "compile", "run")]
        header += ["ratio", "× Gram", "rise", "peak", "device peak"]
        yield from table(header, (_metric_line(row, members) for row in members))
        notes = {f"{row['name']}: {row['note']}" for row in members if row["note"]}
        yield from (f"- {note}" for note in sorted(notes))
        if notes:
            yield ""


def _metric_line(row: Row, rows: Sequence[Row]) -> list[str]:
    keys = ("n", "d", "classes")
    beside = {r["name"]: r for r in rows if all(r[key] == row[key] for key in keys)}
    own = summary(row["run"]).median if row["run"] else math.nan

    def against(name: str | None) -> str:
        other = beside.get(name or "")
        return ratio(own, summary(other["run"]).median) if other and other["run"] else _NONE

    compiled = None if row["compile"] is None else row["compile"] + row["trace"]
    difference = "" if row["reference"] is None else _number(row["difference"], ".1e")
    return [
        row["name"],
        *(str(row[key]) for key in keys),
        row["reference"] or "",
        "" if row["role"] == "limit" else _number(row["score"]),
        difference,
        "" if compiled is None else seconds(compiled),
        spread(row["run"]),
        against(row["reference"]) if row["reference"] else "",
        against(GRAM),
        *(_memory(row, part) for part in ("rise", "peak", "device")),
    ]


def _together(section: Row) -> Iterator[str]:
    yield (
        "One model in memory, one call of `jaxte.rank`; all metrics that moments suffice for, but "
        "LiDAR, whose classes are images. Ratios are of the least times, against LogME alone. "
        "Programs and compilation (processor time): what joining this metric to those "
        "above it adds to a first call."
    )
    yield ""
    keys = ("n", "d", "classes", "dtype")
    for case, group in groupby(section["rows"], key=lambda row: [row[key] for key in keys]):
        rows = list(group)
        yield f"### n = {case[0]}, d = {case[1]}, C = {case[2]}, {case[3]}"
        yield ""
        base = rows[0]
        header = ("metric", "programs", "compilation", "clock", "ratio", "processor", "ratio")
        yield from table(
            header,
            (
                [
                    row["name"],
                    str(row.get("programs", "")),
                    seconds(max(row["first"], 0)) if "first" in row else "",
                    *(
                        cell
                        for key in ("run", "cpu")
                        for cell in (spread(row[key]), ratio(min(row[key]), min(base[key])))
                    ),
                ]
                for row in rows
            ),
        )


def _grid(section: Row) -> Iterator[str]:
    low, high = sorted({row["n"] for row in section["measured"]})
    yield (
        "All 11 models of a data set in one call of `jaxte.rank` in float64, warm. Not measured at "
        f"the data sets' own sizes: at n = {low} and {high}, and from there on linearly in n; with "
        "as many classes as the table says. Seconds of the processor, all cores added up. Beside "
        "them the sum that TE-Bench's README gives for the same 121 pairs, by the clock of a "
        "machine that it does not name: not to be compared but in order of magnitude."
    )
    yield ""
    for metric, group in groupby(
        sorted(section["rows"], key=lambda row: str(row["metric"])), key=lambda row: row["metric"]
    ):
        rows = list(group)
        lines = [
            [row["name"], str(row["n"]), str(row["classes"]), str(row["as"]), seconds(row["cpu"])]
            for row in rows
        ]
        total = sum(row["cpu"] for row in rows)
        yield f"### {metric}; TE-Bench: {rows[0]['published']} s"
        yield ""
        header = ("data set", "n", "C", "measured with C", "processor")
        yield from table(header, [*lines, ["all 11", "", "", "", seconds(total)]])


def _pool(section: Row) -> Iterator[str]:
    yield (
        "Cold: a fresh process from its start to the scores, with imports, reading the features "
        "and, for jaxte, all compilation (empty cache). Warm: the same call again. Ratios: over "
        "the jaxte run of the same metrics and variants. Nobody has released code of FaCe."
    )
    yield ""
    keys = ("models", "n", "classes")
    for case, group in groupby(section["rows"], key=lambda row: [row[key] for key in keys]):
        rows = list(group)
        by_name = {row["name"]: row for row in rows}
        widths = rows[0]["widths"]
        yield f"### {case[0]} models, n = {case[1]}, C = {case[2]}"
        yield ""
        yield f"Widths {min(widths)} to {max(widths)}, {sum(widths)} columns in all."
        yield ""
        header = [*("who", "cold", "imports", "first call", "warm", "cold ratio", "warm ratio")]
        header += ["rise", "peak", "device peak"]
        yield from table(header, (_pool_line(row, by_name) for row in rows))
        agreed = [(row, metric, a) for row in rows for metric, a in row["agreement"].items()]
        if agreed:
            yield from table(
                ("scores of", "metric", "models", "largest difference", "pairs in other order"),
                (
                    [
                        r["name"],
                        metric,
                        str(a["models"]),
                        f"{a['difference']:.1e}",
                        f"{a['swapped']}",
                    ]
                    for r, metric, a in agreed
                ),
            )


def _pool_line(row: Row, rows: Mapping[str, Row]) -> list[str]:
    other = rows.get(row["reference"] or "")
    ratios = [
        ratio(summary(row[part]).median, summary(other[part]).median) if other else ""
        for part in ("cold", "warm")
    ]
    return [
        row["name"],
        spread(row["cold"]),
        spread(row["import"]),
        spread(row["first"]),
        spread(row["warm"]),
        *ratios,
        *(_memory(row, part) for part in ("rise", "peak", "device")),
    ]


def _growth(section: Row) -> Iterator[str]:
    yield (
        "Exponents: slopes of ln time (warm) and of ln memory (rise) over ln of the axis, by least "
        "squares. Memory is that of the first call, compilation included; every point has its own "
        "process."
    )
    yield ""
    yield from table(
        ("axis", "metric", "mode", "points", "time", "upper half", "memory", "upper half"),
        (
            [
                *(fit[key] for key in ("axis", "metric", "mode")),
                str(fit["points"]),
                *(
                    _number(fit[what][part], ".2f")
                    for what in ("seconds", "memory")
                    for part in ("overall", "upper")
                ),
            ]
            for fit in section["fits"]
        ),
    )
    header = ("axis", "metric", "mode", "n", "d", "C", "models", "first call", "warm")
    yield from table(
        (*header, "rise", "peak", "device peak"),
        (
            [
                *(row[key] for key in ("axis", "metric", "mode")),
                *(str(row[key]) for key in ("n", "d", "classes", "models")),
                seconds(row["first"]),
                spread(row["warm"]),
                *(_memory(row, part) for part in ("rise", "peak", "device")),
            ]
            for row in section["rows"]
        ),
    )


def _extraction(section: Row) -> Iterator[str]:
    rows = section["rows"]
    keys = ("family", "width", "n", "batch", "classes")
    runs = {(r["name"], *(r[k] for k in keys)): r["run"] for r in rows}

    def overhead(row: Row) -> str:
        base = runs.get((AGAINST.get(row["name"], ""), *(row[key] for key in keys)))
        if not base:
            return ""
        return f"{100 * (summary(row['run']).median / summary(base).median - 1):+.1f} %"

    yield from table(
        ("model", "what", "n", "batch", "C", "first call", "warm", "overhead"),
        (
            [
                f"{row['family']}, {row['width']} wide",
                row["name"],
                *(str(row[key]) for key in ("n", "batch", "classes")),
                seconds(row["first"]),
                spread(row["run"]),
                overhead(row),
            ]
            for row in rows
        ),
    )


def _disk(section: Row) -> Iterator[str]:
    yield (
        "Features in one .npy file, ranked from its path, alone in a process. Peak and rise are of "
        "all resident memory, compilation and the pages of files included."
    )
    yield ""
    yield from table(
        ("on disk", "n", "d", "C", "metrics", "memory_limit", "seconds", "rise", "peak"),
        (
            [
                size(row["gigabytes"] * 2**30),
                *(str(row[key]) for key in ("n", "d", "classes")),
                ", ".join(row["metrics"]),
                size(row["limit"]),
                seconds(row["first"]),
                *(_memory(row, part) for part in ("rise", "peak")),
            ]
            for row in section["rows"]
        ),
    )
