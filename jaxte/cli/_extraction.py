"""What `jaxte extract` and `jaxte run` share: models to extract, one after the other.

Commands import it when they run, as it loads JAX.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import tomllib
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from jaxte import _progress, data
from jaxte.cli._errors import check_counts, system_message, warn
from jaxte.cli._options import SPEC, Extraction, models, names
from jaxte.data import Dataset
from jaxte.data.dataset import Subset
from jaxte.errors import InputError
from jaxte.extraction import Model, resolve
from jaxte.extraction.loop import extraction
from jaxte.extraction.models import COMPUTE_TYPES
from jaxte.extraction.plan import Plan, plan
from jaxte.extraction.pooling import check_pool
from jaxte.extraction.targets import Pixels, level_of
from jaxte.intake import disk
from jaxte.intake.checks import choose
from jaxte.store.columns import check_type

if TYPE_CHECKING:
    import jax

    from jaxte.statistics.measure import Moments
    from jaxte.store import FeatureStore

__all__ = ["FAILED", "Job", "Options", "Outcome", "directory_name", "jobs_of_file", "jobs_of_specs"]
__all__ += ["make_plans", "model_options", "places", "read_data", "run_jobs", "size_of"]

FAILED = "failed"
_NAMED = re.compile(rf"([\w.+-]+)=({SPEC}.*)")
_TEXTS = ("name", "source", "layers", "pool", "level", "layout", "prepare", "compute_dtype")
_KINDS: dict[str, Any] = dict.fromkeys(_TEXTS, str) | {
    "max_length": int,
    "layers": (str, int, list),
    "prepare": dict,
    "batch_size": int,
}


class Job(NamedTuple):
    """A model to extract.

    Attributes:
        name: by the user; None for the model's own.
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

    def named(self) -> Job:
        """The same with a name known before it is loaded; of Python the specification itself."""
        kind, _, where = self.source.partition(":")
        own = self.source if kind == "python" or not where else where
        if kind in ("hf", "encoder"):
            own = os.path.basename(os.path.normpath(where))
        name = self.name or own
        return self._replace(name=name, options={**self.options, "name": name})

    def load(self, dataset: Dataset) -> Model:
        """The model itself, at the level that the data set needs."""
        level = level_of(None, dataset, self.options.get("level"))
        return resolve(self.source, **{**self.options, "level": level})


class Options(NamedTuple):
    """How every model is extracted."""

    shared: Extraction
    store: bool
    traceback: bool
    precision: str = "auto"
    on_error: str = "raise"
    mesh: jax.sharding.Mesh | None = None

    def check(self) -> None:
        """Raise `InputError` for values that cannot be, before anything is read or loaded."""
        shared = self.shared
        check_type(shared.dtype)
        if shared.pixels is not None and not 0 < shared.pixels < float("inf"):
            raise InputError(f"--pixels {shared.pixels}: it must be a positive number")
        check_counts(0, seed=shared.seed, workers=shared.workers)
        counts = ("batch_size", "max_length", "subset", "limit", "pixel_budget")
        check_counts(1, **{name: getattr(shared, name) for name in counts})
        if shared.devices is not None and not self.store:
            raise InputError(
                "--devices is for features that are stored: leave it out, or --no-store"
            )

    @property
    def positions(self) -> Pixels:
        """Which pixels of label maps become rows."""
        return Pixels(self.shared.pixels, self.shared.pixel_budget, self.shared.seed)

    def features(self) -> dict[str, Any]:
        """What decides about features."""
        shared = self.shared
        return {"dtype": shared.dtype, "logits": shared.logits, "pixels": self.positions}


class Outcome(NamedTuple):
    """What became of a model.

    Attributes:
        name: of the model.
        status: "extracted", "resumed", "cached", "stored", "streamed" or that it failed.
        rows: that it has, None where it failed; likewise the width of its features.
        seconds: of this run.
        size: bytes on disk, None where nothing is stored.
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


def places(root: Path, dataset: Dataset) -> Where:
    """Where `jaxte run` keeps the features of a data set."""
    return lambda name: root / directory_name(name) / directory_name(dataset.name)


def _first_rows(whole: Dataset, n: int) -> Dataset:
    """The first n rows of a data set, as --limit takes them."""
    if not 1 <= n <= len(whole):
        raise InputError(f"--limit {n}: {whole.name} has {len(whole)} rows, choose from 1 up")
    name = f"{whole.name}{'&' if '?' in whole.name else '?'}first={n}"
    return Subset(whole, range(n), name, {**whole.card, "rows": n, "first": n})


def read_data(spec: str, options: Extraction, *, skip: bool = False) -> Dataset:
    """The data set of the command line."""
    dataset = data.load(spec, data_dir=options.data_dir, on_error="skip" if skip else "raise")
    if options.subset is not None:
        dataset = dataset.subset(options.subset, seed=options.seed)
    return dataset if options.limit is None else _first_rows(dataset, options.limit)


def model_options(
    layers: Sequence[str] | None, pool: str | None, options: Extraction, **others: Any
) -> dict[str, Any]:
    """What decides about features of every model, unless it says otherwise."""
    if options.compute_dtype is not None:
        choose("compute_dtype", options.compute_dtype, COMPUTE_TYPES)
    if pool is not None:
        check_pool(pool, "example")
    own: dict[str, Any] = {"layers": names(layers) if layers else None, "pool": pool, **others}
    own |= {"compute_dtype": options.compute_dtype, "max_length": options.max_length}
    return {name: value for name, value in own.items() if value is not None}


def jobs_of_specs(
    texts: Iterable[str], options: Mapping[str, Any], batch_size: int | None
) -> list[Job]:
    """The models of --model, each SPEC or NAME=SPEC."""
    jobs = []
    for text in models(texts):
        named = _NAMED.fullmatch(text)
        name, source = named.groups() if named else (None, text)
        name = options.get("name") or name
        of_model = options if name is None else {**options, "name": name}
        jobs.append(Job(name, source, of_model, batch_size or 64))
    return jobs


def jobs_of_file(path: Path, options: Mapping[str, Any], batch_size: int | None) -> list[Job]:
    """The [[model]] tables of a TOML file; what they leave open the command line decides."""
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
    if not isinstance(table, dict) or not isinstance(table.get("source"), str):
        raise InputError(f'{where} has no source: write source = "zoo:NAME" or such')
    for key, value in table.items():
        if key not in _KINDS:
            raise InputError(f"{where} has no {key!r}: there are {', '.join(_KINDS)}")
        if not isinstance(value, _KINDS[key]) or isinstance(value, bool):
            raise InputError(f"{where}: {key} cannot be {value!r}")
    for key in ("batch_size", "max_length"):
        if key in table and table[key] < 1:
            raise InputError(f"{where}: {key} is {table[key]}, it must be a positive number")
    of_model = {key: value for key, value in table.items() if key not in ("source", "batch_size")}
    size = table.get("batch_size", batch_size or 64)
    return Job(table.get("name"), table["source"], {**options, **of_model}, size)


# --- one model after the other -------------------------------------------------------------------


def run_jobs(
    jobs: Sequence[Job], dataset: Dataset, where: Where, options: Options
) -> list[Outcome]:
    """Extract every model; one that fails says so and does not stop the others."""
    outcomes: list[Outcome] = []
    with _progress.bar("extracting") as update:
        for number, job in enumerate(jobs, 1):
            counted = f" ({number} of {len(jobs)})" if len(jobs) > 1 else ""

            def report(done: int, total: int | None, name: str, counted: str = counted) -> None:
                update(done, total, name + counted)

            report(0, len(dataset), job.title)
            begun = time.perf_counter()
            name = job.title
            try:
                model = job.load(dataset)
                name = model.name
                run = _extract if options.store else _stream
                outcome = run(job, model, dataset, where, options, report)
            except Exception as error:
                reason, seconds = _reason(error, name, options), time.perf_counter() - begun
                outcome = Outcome(name, FAILED, None, None, seconds, None, {}, reason)
                warn(f"{name}: {reason}")
            outcomes.append(outcome)
    return outcomes


def make_plans(
    jobs: Sequence[Job], dataset: Dataset, where: Where, options: Options
) -> list[tuple[str, Plan | str]]:
    """What `run_jobs` would do with each model, or why it cannot."""
    plans: list[tuple[str, Plan | str]] = []
    for job in jobs:
        name = job.title
        try:
            model = job.load(dataset)
            name = model.name
            out = where(name) if options.store else None
            plans.append((name, plan(model, dataset, out, **options.features())))
        except Exception as error:
            plans.append((name, _reason(error, name, options)))
    return plans


def _extract(
    job: Job, model: Model, dataset: Dataset, where: Where, options: Options,
    report: _progress.Progress,
) -> Outcome:  # fmt: skip
    out = where(model.name)
    done = extraction(
        model, dataset, out=out, batch_size=job.batch_size, mesh=options.mesh,
        workers=options.shared.workers, progress=report, on_error=options.on_error,
        **options.features(),
    )  # fmt: skip
    store = done.store
    width = sum(store[layer].shape[1] for layer in store.layers)
    size, features = None if out is None else size_of(out), {model.name: store}
    return Outcome(
        model.name, done.status, store.rows, width, done.seconds, size, features, notes=done.notes
    )


def size_of(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _stream(
    job: Job, model: Model, dataset: Dataset, where: Where, options: Options,
    report: _progress.Progress,
) -> Outcome:  # fmt: skip
    from jaxte.extraction.streaming import streamed

    begun = time.perf_counter()
    notes: list[str] = []
    states = streamed(
        model, dataset, precision=options.precision, batch_size=job.batch_size,
        pixels=options.positions, workers=options.shared.workers, progress=report, notes=notes,
        on_error=options.on_error,
    )  # fmt: skip
    several = len(states) > 1
    named = {f"{model.name}@{layer}" if several else model.name: s for layer, s in states.items()}
    rows = int(next(iter(states.values())).samples)
    width = sum(state.scatter.shape[0] for state in states.values())
    seconds = time.perf_counter() - begun
    return Outcome(model.name, "streamed", rows, width, seconds, None, named, notes=tuple(notes))


def _reason(error: BaseException, name: str, options: Options) -> str:
    """Why, in one line: of what a user can mend the message, of a fault also where it was."""
    if options.traceback:
        traceback.print_exception(error)
    message = " ".join(str(error).split()).removeprefix(f"{name}: ")
    # JAX adds a note about its own frames, under a line of dashes
    notes = "; ".join(note for note in getattr(error, "__notes__", ()) if note[:2] != "--")
    if isinstance(error, OSError):
        message = system_message(error)
    text = f"{message} ({notes})" if notes else message
    if isinstance(error, InputError | ImportError | OSError):
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
