"""What `jaxte extract` and `jaxte run` share: models to extract, one after the other."""

from __future__ import annotations

import hashlib
import os
import re
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from jaxte.cli import _common

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import jax

    from jaxte.data import Dataset
    from jaxte.extraction import Model
    from jaxte.extraction._targets import Pixels
    from jaxte.extraction.plan import Plan
    from jaxte.statistics.measure import Moments
    from jaxte.store import FeatureStore

__all__ = ["FAILED", "Job", "Options", "Outcome", "directory_name", "file_jobs", "given_jobs"]
__all__ += ["damaged", "plans", "read_data", "reason_of", "size_of", "work"]

FAILED = "failed"
_NAMED = re.compile(r"([\w.+-]+)=((?:zoo|hf|timm|python):.*)")
_KEYS = [
    "name",
    "source",
    "layers",
    "pool",
    "level",
    "layout",
    "prepare",
    "compute_dtype",
    "max_length",
]


class Job(NamedTuple):
    """A model to extract.

    Attributes:
        name: as it was given; None for the model's own.
        source: its specification.
        options: of `jaxte.extraction.resolve`.
        batch_size: examples at once.
    """

    name: str | None
    source: str
    options: Mapping[str, Any]
    batch_size: int

    @property
    def title(self) -> str:
        """Its name before it is loaded."""
        return self.name or self.source

    @property
    def expected(self) -> str | None:
        """The name that it will have; None where only the loaded model tells it."""
        if self.name is not None:
            return self.name
        kind, _, where = self.source.partition(":")
        if kind == "hf":
            return os.path.basename(os.path.normpath(where))
        return where if kind in ("zoo", "timm") else None

    def load(self, dataset: Dataset) -> Model:
        """The model itself, at the level that the data set needs."""
        from jaxte.extraction import resolve
        from jaxte.extraction._targets import level_of

        level = level_of(None, dataset, self.options.get("level"))
        return resolve(self.source, **{**self.options, "level": level})


class Options(NamedTuple):
    """How every model is extracted."""

    dtype: str
    logits: bool
    pixels: float | None
    pixel_budget: int | None
    seed: int
    workers: int
    mesh: jax.sharding.Mesh | None
    store: bool
    precision: str
    traceback: bool
    on_error: str = "raise"

    @property
    def positions(self) -> Pixels:
        """Which pixels of label maps become rows."""
        from jaxte.extraction._targets import Pixels

        return Pixels(self.pixels, self.pixel_budget, self.seed)

    def extraction(self) -> dict[str, Any]:
        """What decides about features."""
        return {"dtype": self.dtype, "logits": self.logits, "pixels": self.positions}


class Outcome(NamedTuple):
    """What became of a model.

    Attributes:
        features: name in rankings -> store or moments; empty where it failed.
        reason: why it failed.
        notes: what a user should know though it did not.
    """

    name: str
    status: str
    rows: int | None
    width: int | None
    seconds: float
    size: int | None
    features: Mapping[str, FeatureStore | Moments]
    reason: str = ""
    notes: tuple[str, ...] = ()


Where: TypeAlias = "Callable[[str], Path | None]"  # name of a model -> directory of its store


def read_data(
    spec: str,
    *,
    subset: int | None,
    seed: int,
    limit: int | None,
    data_dir: str | None,
    skip: bool = False,
) -> Dataset:
    """The data set of the command line."""
    from jaxte import data

    found = data.load(spec, data_dir=data_dir, on_error="skip" if skip else "raise")
    if subset is not None:
        found = found.subset(subset, seed=seed)
    if limit is None:
        return found
    from jaxte.cli._first import First

    return First(found, limit)


def damaged(dataset: Dataset, workers: int) -> dict[int, str]:
    """Number of a row that cannot be read -> why."""
    from jaxte._progress import bar

    with bar("reading") as update:
        return dataset.damaged(workers=workers, progress=update)


def given_jobs(
    models: Sequence[str], options: Mapping[str, Any], batch_size: int | None
) -> list[Job]:
    """The models of --model, each SPEC or NAME=SPEC."""
    found = []
    for text in models:
        named = _NAMED.fullmatch(text)
        name, source = named.groups() if named else (None, text)
        named_options = {**options, "name": options.get("name") or name}
        found.append(Job(named_options["name"], source, _known(named_options), batch_size or 64))
    return found


def file_jobs(path: Path, options: Mapping[str, Any], batch_size: int | None) -> list[Job]:
    """The [[model]] tables of a TOML file; what they leave open the command line decides."""
    import tomllib

    from jaxte.errors import InputError
    from jaxte.intake import disk

    text = disk.read_bytes(path, "TOML")
    try:
        tables = tomllib.loads(text.decode()).get("model")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    if not isinstance(tables, list) or not tables:
        raise InputError(f"{path} has no [[model]] tables: write one for each model")
    return [
        _job(f"{path}: model {i}", table, options, batch_size) for i, table in enumerate(tables, 1)
    ]


def _job(where: str, table: Any, options: Mapping[str, Any], batch_size: int | None) -> Job:
    from jaxte.errors import InputError

    if not isinstance(table, dict) or not isinstance(table.get("source"), str):
        raise InputError(f'{where} has no source: write source = "zoo:NAME" or such')
    kinds: dict[str, Any] = dict.fromkeys(_KEYS, str)
    kinds |= {"layers": (str, int, list), "prepare": dict, "max_length": int, "batch_size": int}
    for key, value in table.items():
        if key not in kinds:
            raise InputError(f"{where} has no {key!r}: there are {', '.join(kinds)}")
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise InputError(f"{where}: {key} cannot be {value!r}")
    for key in ("batch_size", "max_length"):
        if key in table and table[key] < 1:
            raise InputError(f"{where}: {key} is {table[key]}, it must be a positive number")
    own = {key: value for key, value in table.items() if key not in ("source", "batch_size")}
    size = table.get("batch_size", batch_size or 64)
    return Job(table.get("name"), table["source"], {**_known(options), **own}, size)


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


# --- one model after the other -------------------------------------------------------------------


def work(jobs: Sequence[Job], dataset: Dataset, where: Where, options: Options) -> list[Outcome]:
    """Extract every model; one that fails says so and does not stop the others."""
    from jaxte._progress import bar

    found: list[Outcome] = []
    with bar("extracting") as update:
        for number, job in enumerate(jobs, 1):
            counted = f" ({number} of {len(jobs)})" if len(jobs) > 1 else ""

            def report(done: int, total: int | None, name: str, counted: str = counted) -> None:
                update(done, total, name + counted)

            report(0, len(dataset), job.title)
            found.append(_done(job, dataset, where, options, report, [one.name for one in found]))
            if found[-1].status == FAILED:
                _common.warn(f"{found[-1].name}: {found[-1].reason}")
    return found


def _done(
    job: Job,
    dataset: Dataset,
    where: Where,
    options: Options,
    report: Callable[[int, int | None, str], None],
    taken: Sequence[str],
) -> Outcome:
    begun = time.perf_counter()
    name = job.title
    try:
        model = job.load(dataset)
        name = model.name
        _check_name(name, taken)
        if not options.store:
            return _streamed(job, model, dataset, options, report)
        return _stored(job, model, dataset, where(name), options, report)
    except Exception as error:
        if options.traceback:
            traceback.print_exc()
        seconds = time.perf_counter() - begun
        return Outcome(name, FAILED, None, None, seconds, None, {}, reason_of(error, name))


def _check_name(name: str, taken: Sequence[str]) -> None:
    from jaxte.errors import InputError

    if name in taken:
        raise InputError(f"another model is called {name}, too: give it a name, NAME=SPEC")


def _stored(
    job: Job,
    model: Model,
    dataset: Dataset,
    out: Path | None,
    options: Options,
    report: Callable[[int, int | None, str], None],
) -> Outcome:
    from jaxte.extraction.loop import extraction

    found = extraction(
        model,
        dataset,
        out=out,
        batch_size=job.batch_size,
        mesh=options.mesh,
        workers=options.workers,
        progress=report,
        on_error=options.on_error,
        **options.extraction(),
    )
    store = found.store
    width = sum(store[layer].shape[1] for layer in store.layers)
    return Outcome(
        model.name,
        found.status,
        store.rows,
        width,
        found.seconds,
        None if out is None else size_of(out),
        {model.name: store},
        notes=found.notes,
    )


def size_of(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _streamed(
    job: Job,
    model: Model,
    dataset: Dataset,
    options: Options,
    report: Callable[[int, int | None, str], None],
) -> Outcome:
    from jaxte.extraction._stream import of_model, streamed

    begun = time.perf_counter()
    notes: list[str] = []
    states = streamed(
        of_model(model),
        dataset,
        precision=options.precision,
        batch_size=job.batch_size,
        pixels=options.positions,
        workers=options.workers,
        progress=report,
        notes=notes,
        on_error=options.on_error,
    )
    several = len(states) > 1
    named = {f"{model.name}@{layer}" if several else model.name: s for layer, s in states.items()}
    return Outcome(
        model.name,
        "streamed",
        int(next(iter(states.values())).samples),
        sum(state.scatter.shape[0] for state in states.values()),
        time.perf_counter() - begun,
        None,
        named,
        notes=tuple(notes),
    )


def plans(
    jobs: Sequence[Job], dataset: Dataset, where: Where, options: Options
) -> list[tuple[str, Plan | str]]:
    """What `work` would do with each model, or why it cannot."""
    from jaxte.extraction.plan import plan

    found: list[tuple[str, Plan | str]] = []
    for job in jobs:
        name = job.title
        try:
            model = job.load(dataset)
            name = model.name
            _check_name(name, [one for one, _ in found])
            out = where(name) if options.store else None
            found.append((name, plan(model, dataset, out, **options.extraction())))
        except Exception as error:
            if options.traceback:
                traceback.print_exc()
            found.append((name, reason_of(error, name)))
    return found


def reason_of(error: BaseException, name: str) -> str:
    """Why, in one line: of what a user can mend the message, of a fault also where it was."""
    from jaxte.errors import InputError

    message = " ".join(str(error).split()).removeprefix(f"{name}: ")
    # JAX adds a note about its own frames, under a line of dashes
    notes = " ".join(note for note in getattr(error, "__notes__", ()) if note[:2] != "--")
    text = f"{message} ({notes})" if notes else message
    if isinstance(error, OSError):
        return f"{_common.of_system(error)} ({notes})" if notes else _common.of_system(error)
    if isinstance(error, InputError | ImportError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" [{Path(frames[-1].filename).name}, line {frames[-1].lineno}]" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def directory_name(name: str) -> str:
    """A name of anything as the name of a directory, different for different names."""
    plain = re.sub(r"[^\w.+@=-]+", "_", name).strip("._")[:80]
    if plain == name != "":
        return plain
    return f"{plain or 'unnamed'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
