"""The commands and their options."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks import (
    account,
    child,
    clones,
    coverage,
    device,
    disk,
    encoders,
    ensembles,
    extraction,
    golden,
    grid,
    growth,
    headline,
    machine,
    metrics,
    pool,
    problems,
    proof,
    race,
    rivals,
    shortlist,
    store,
    together,
)
from benchmarks.settings import METRICS, Settings, say

_THREADS = (
    "cores and threads that each may use (as many as there are); on a busy machine OpenMP threads "
    "that wait for each other make some rivals many times slower, so compare there with 1"
)
MEASURED = tuple(dict.fromkeys(rival.metric for rival in rivals.RIVALS))
COMMANDS = ("metrics", "pool", "growth", "extraction", "memory")  # of "all"
_QUICK: dict[str, Any] = {
    "n": [60],
    "d": [12, 80],
    "classes": [3],
    "dtypes": ["float64"],
    "models": [2],
    "pool_n": 60,
    "widths": (12, 80),
    "points": {"n": (60, 120)},
    "base": {"n": 60, "d": 8, "classes": 3, "models": 1},
    "images": 64,
    "gigabytes": (0.002, 0.004),
    "batch": 32,
    "repeats": {"metrics": 2, "growth": 2, "extraction": 2},  # and of the others one
}


# Commands of their own: they have their own options, and write their own results.
_WHOLE: dict[str, tuple[Any, str]] = {
    "proof": (proof, "which score picks the model that fine-tunes best"),
    "encoders": (encoders, "measure and score the pool of ImageNet encoders for proof"),
    "headline": (headline, "what was claimed of SFDA, perturbation and FaCe"),
    "race": (race, "races against what full fine-tuning reached"),
    "ensembles": (ensembles, "whether chosen ensembles beat those of the best members"),
    "coverage": (coverage, "whether intervals and chances mean what they say"),
    "shortlist": (shortlist, "whether the best of a large hub is kept"),
    "golden": (golden, "every metric against values of released code"),
    "account": (account, "least arithmetic, bytes and time of every metric"),
    "device": (device, "all that is to be known of a card, in minutes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "report":
            store.render(Path(options.folder))
            return 0
        if options.command in _WHOLE:
            return int(_WHOLE[options.command][0].run(options))
        settings = Settings(
            patience=options.patience,
            seed=options.seed,
            kind=options.kind,
            clones=clones.parse(options.clone),
            rivals=options.rivals,
            threads=options.threads,
            memory_cases=1 if options.quick else None,
        )
        if getattr(options, "no_memory", False):
            settings.memory_cases = 0
        return _measure(options, settings)
    except (clones.MissingError, child.FailedError, store.UnusableError) as error:
        say(f"error: {error}")
        return 2


def _measure(options: argparse.Namespace, settings: Settings) -> int:
    here = child.run("machine", settings.common())
    folder = options.out or str(
        machine.ROOT
        / "benchmarks"
        / "results"
        / f"{machine.slug(here['device'])}-{time.strftime('%Y-%m-%d')}"
    )
    commands = COMMANDS if options.command == "all" else (options.command,)
    empty = False
    for command in commands:
        settings.skipped = []
        settings.repeats = options.repeats or (
            _QUICK["repeats"].get(command, 1) if options.quick else 5
        )
        begun = time.time()
        section = _RUNS[command](options, settings)
        section |= {
            "machine": here,
            "settings": {
                # neither where clones lie nor where results go: those are this machine's
                **{k: v for k, v in vars(options).items() if k not in ("clone", "out") and v},
                **settings.common(),
                "clones": here["clones"],
            },
            "skipped": settings.skipped,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(begun)),
            "seconds": time.time() - begun,
        }
        store.save(Path(folder), command, section)
        empty |= not section["rows"]
    store.render(Path(folder))
    say(f"written to {folder}")
    return store.check(Path(folder), commands) if options.quick else int(empty)


def _metrics(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    return metrics.run(
        settings,
        options.n or (_QUICK["n"] if options.quick else [1000, 5000]),
        options.d or (_QUICK["d"] if options.quick else [256, 768, 2048]),
        options.classes or (_QUICK["classes"] if options.quick else [10, 100]),
        options.dtypes or (_QUICK["dtypes"] if options.quick else ["float32", "float64"]),
        metrics.chosen(options.metrics, {} if options.quick else settings.clones),
    )


def _together(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    return together.run(
        settings,
        options.n or (_QUICK["n"] if options.quick else [5000, 1000]),
        options.d or (_QUICK["d"][:1] if options.quick else [2048, 512]),
        options.classes or (_QUICK["classes"] if options.quick else [100, 10]),
        options.dtypes or ["float64"],
    )


def _grid(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    return grid.run(
        settings,
        options.n or ([800, 850] if options.quick else [2500, 5000]),
        options.d or (_QUICK["widths"] if options.quick else grid.WIDTHS),
    )


def _pool(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    return pool.run(
        settings,
        options.models or (_QUICK["models"] if options.quick else [16, 33]),
        options.n[0] if options.n else (_QUICK["pool_n"] if options.quick else 5000),
        options.classes or (_QUICK["classes"] if options.quick else [10, 100]),
        options.d or (_QUICK["widths"] if options.quick else problems.WIDTHS),
        options.precision,
    )


def _growth(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    points: dict[str, Any] = dict(_QUICK["points"] if options.quick else growth.POINTS)
    own = {"n": options.n, "d": options.d, "classes": options.classes, "models": options.models}
    points |= {axis: values for axis, values in own.items() if values}
    return growth.run(
        settings,
        options.axes or [axis for axis in growth.AXES if axis in points],
        options.metrics or (["face"] if options.quick else METRICS),
        options.modes or growth.MODES,
        points,
        _QUICK["base"] if options.quick else growth.BASE,
        options.batch or (_QUICK["batch"] if options.quick else 1000),
        int(options.largest * 2**30),
    )


def _extraction(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    quick = [("mlp", 32)]
    return extraction.run(
        settings,
        quick if options.quick else extraction.NETWORKS,
        options.n[0] if options.n else (_QUICK["images"] if options.quick else 4096),
        options.batch or (_QUICK["batch"] if options.quick else 256),
        options.classes[0] if options.classes else 10,
    )


def _memory(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    return disk.run(
        settings,
        options.gigabytes or (_QUICK["gigabytes"] if options.quick else [1, 8]),
        options.d[0] if options.d else (16 if options.quick else 512),
        options.classes[0] if options.classes else 10,
        options.metrics or METRICS,
        options.limit,
        options.folder,
    )


_RUNS: dict[str, Callable[[argparse.Namespace, Settings], dict[str, Any]]] = {
    "metrics": _metrics,
    "together": _together,
    "pool": _pool,
    "grid": _grid,
    "growth": _growth,
    "extraction": _extraction,
    "memory": _memory,
}


_OPTIONS: dict[str, dict[str, Any]] = {
    "no-memory": {"action": "store_true", "help": "leave out the memory of metrics"},
    "n": {"type": int, "nargs": "+", "help": "samples"},
    "d": {"type": int, "nargs": "+", "help": "widths"},
    "classes": {"type": int, "nargs": "+"},
    "models": {"type": int, "nargs": "+", "help": "sizes of the pool"},
    "metrics": {"nargs": "+", "choices": MEASURED},
    "dtypes": {"nargs": "+", "choices": ("float32", "float64")},
    "precision": {"default": "auto", "help": "of rank in pool (auto)"},
    "axes": {"nargs": "+", "choices": growth.AXES},
    "modes": {"nargs": "+", "choices": growth.MODES},
    "batch": {"type": int, "help": "rows of a batch"},
    "gigabytes": {"type": float, "nargs": "+", "help": "files of memory (1 and 8)"},
    "limit": {"type": float, "default": 256.0, "help": "MiB, rank's memory_limit (256)"},
    "folder": {"metavar": "DIR", "help": "where these files are made (temporary)"},
    "largest": {"type": float, "default": 2.0, "help": "GiB of an array (2)"},
}
_READS = {
    "metrics": ("n", "d", "classes", "dtypes", "metrics", "no-memory"),
    "together": ("n", "d", "classes", "dtypes"),
    "pool": ("models", "n", "d", "classes", "precision"),
    "grid": ("n", "d"),
    "growth": ("axes", "modes", "metrics", "n", "d", "classes", "models", "batch", "largest"),
    "extraction": ("n", "classes", "batch"),
    "memory": ("gigabytes", "d", "classes", "metrics", "limit", "folder"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "metrics": "each metric over sizes against its rivals",
        "together": "all metrics of one pass in one call, against LogME alone",
        "pool": "ranking a ragged pool, cold and warm",
        "grid": "SFDA and NCTI on 11 networks and 11 data sets, extrapolated in n",
        "growth": "seconds and memory against n, d, classes and models",
        "extraction": "forward passes alone, with moments, and in jaxte.extract",
        "memory": "peak memory of ranking files, small and large",
        "all": "all of these but together and grid",
    }
    for name, text in helps.items():
        sub = commands.add_parser(name, help=text)
        sub.add_argument("--quick", action="store_true", help="tiny sizes: does it all still run?")
        sub.add_argument("--out", metavar="DIR", help="default: results/<device>-<date>")
        sub.add_argument("--repeats", type=int, help="timed runs of everything (5)")
        sub.add_argument(
            "--patience", type=float, default=60.0, help="seconds spent on repeats of one (60)"
        )
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--kind", choices=problems.KINDS, default="structured")
        sub.add_argument("--clone", nargs="+", default=[], metavar="NAME=PATH", help=_clone_help())
        sub.add_argument("--rivals", nargs="*", metavar="NAME", help="only rivals named so")
        sub.add_argument("--threads", type=int, help=_THREADS)
        own = [one for part in (COMMANDS if name == "all" else (name,)) for one in _READS[part]]
        for option in dict.fromkeys(own):
            sub.add_argument(f"--{option}", **_OPTIONS[option])
    for name, (module, text) in _WHOLE.items():
        module.add_arguments(commands.add_parser(name, help=text))
    sub = commands.add_parser("report", help="Markdown and pictures again, from the JSON")
    sub.add_argument("folder", metavar="DIR")
    return parser


def _clone_help() -> str:
    named = ", ".join(f"{name} ({value[0]})" for name, value in clones.CLONES.items())
    return f"released code to compare with: {named}"
