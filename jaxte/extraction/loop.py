"""`extract`: the features of a model on a data set, batch by batch, into a store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxte._progress import Progress, reporter
from jaxte.errors import InputError
from jaxte.extraction._batches import Batch, Prepare, digest
from jaxte.extraction._forward import Forward, Rows
from jaxte.extraction._resumable import ResumableBatches, as_dataset, left_out, of_pair
from jaxte.extraction._write_queue import WriteQueue
from jaxte.extraction.models import Model, as_model, log
from jaxte.extraction.plan import describe_data, describe_model, describe_settings
from jaxte.extraction.targets import Pixels, Targets, level_of
from jaxte.intake.checks import choose
from jaxte.runtime.devices import platform_of
from jaxte.runtime.mesh import Layout, layout_of
from jaxte.store import FeatureStore, MemoryWriter, Writer, is_store
from jaxte.store.writer import SHARD_ROWS

__all__ = ["Extraction", "extract", "extraction"]

# How far features may be off that another device or release has computed, of the largest.
_TOLERANCE = {"float16": 2e-2, "bfloat16": 4e-2}
_LEAST_TOLERANCE = 2e-3

Store: TypeAlias = Writer | MemoryWriter


class Extraction(NamedTuple):
    """A store, and how it came about.

    Attributes:
        store: of the features.
        status: "cached" if it was complete before, "resumed" if a part of it was there.
        examples: of this run.
        seconds: of this run.
        notes: what a user should know of the inputs.
    """

    store: FeatureStore
    status: Literal["extracted", "resumed", "cached"]
    examples: int
    seconds: float
    notes: tuple[str, ...] = ()


def extract(
    model: Any,
    batches: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    layers: str | Sequence[str] | None = None,
    pool: str = "mean",
    name: str | None = None,
    variables: Any = None,
    prepare: Prepare | None = None,
    level: str | None = None,
    logits: bool = True,
    dtype: str = "float32",
    compute_dtype: str | None = None,
    max_length: int | None = None,
    batch_size: int = 64,
    mesh: jax.sharding.Mesh | None = None,
    num_classes: int | None = None,
    pixels: float | Sequence[float] | None = None,
    pixel_budget: int | None = None,
    seed: int = 0,
    shard_rows: int = SHARD_ROWS,
    workers: int = 0,
    progress: bool | Progress = False,
    layout: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> FeatureStore:
    """Features, labels and source logits of a model on a data set, in a store.

    The forward pass is compiled once for the shape of the batches (a shorter one is filled up and
    cut again) and once for models of one architecture. While the device works on a batch, the next
    one is read and the one before is written.

    Run again with the same ``out``, an extraction that was interrupted goes on after the last
    batch that was stored, and one that was completed returns at once. Stored batches that are read
    again (the first and the last of a data set, all of an iterable) must be what they were; a
    model without parameters of its own to compare computes the first batch again.

    Args:
        model: what `jaxte.extraction.as_model` takes: a function inputs -> features, a Flax nnx
            module, a linen module with its ``variables``, a zoo model, a transformers or timm
            model, or what it returned.
        batches: a `jaxte.data.Dataset`; a pair (inputs, labels) of all examples; or an iterable
            (or a function that returns one) of such pairs for each batch, or of dicts, as
            {"image": ..., "label": ...}. Labels are integer classes [b], floats [b] or [b, k]
            (regression, or 0 and 1 of several labels at once), classes of words [b, W], or label
            maps [b, h, w].
        out: directory of the store; in memory without it.
        layers: path of a layer, or several: "blocks/11", "penultimate", "logits"; or "all".
        pool: how a layer of many positions becomes one vector, as in `as_model`.
        name: of the model, in the store and in rankings.
        variables: of a linen module.
        prepare: list of raw examples -> arrays of one shape with a row for each.
        level: "example", or "token" or "dense" for a row per word or pixel; by default what the
            task of the data set needs.
        logits: whether to keep the output of the model's own head beside the features.
        dtype: of the stored features: "float32", "float16", "bfloat16" or "float64".
        compute_dtype: of the model's arithmetic, as "bfloat16"; its own by default.
        max_length: tokens at which texts are cut.
        batch_size: examples of a data set at once; an iterable has batches of its own size.
        mesh: devices that share every batch, over an axis "samples".
        num_classes: C, if the data set does not know it; labels are checked by it.
        pixels: of label maps: how many positions of each class become rows of an image, 8 by
            default; a number for all classes, or one for each.
        pixel_budget: instead, how many of each class in the whole data set.
        seed: of the choice of positions.
        shard_rows: rows of a file of the store.
        workers: threads that read and prepare a data set ahead.
        progress: True for a progress bar, or a function (done, total, name) of examples.
        layout: "NHWC" or "NCHW", of layers with four axes, as in `as_model`.
        on_error: "skip" leaves out examples of a data set that cannot be read; the manifest of
            the store says which, and why. `jaxte.data.Dataset.damaged` finds them beforehand.

    Returns:
        A `FeatureStore`, which `jaxte.rank` takes for features, labels included.

    Raises:
        InputError: for a model, a batch or a label that will not do (named), features that are
            not finite, or a store of something else (the differences are named). What was stored
            before stays.

    Example:
        >>> import jax, numpy as np, jaxte
        >>> images, labels = np.ones((10, 2, 6), np.float32), np.arange(10) % 2
        >>> batches = [(images[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)]
        >>> w = jax.random.normal(jax.random.key(0), (12, 4))
        >>> store = jaxte.extract(lambda x: x.reshape(len(x), -1) @ w, batches)
        >>> store.shape, store.labels.tolist()
        ((10, 4), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    """
    batches = of_pair(batches)
    level = level_of(model, as_dataset(batches), level)
    model = as_model(
        model, layers=layers, pool=pool, name=name, variables=variables, prepare=prepare,
        level=level, compute_dtype=compute_dtype, max_length=max_length, layout=layout,
    )  # fmt: skip
    return extraction(
        model, batches, out=out, logits=logits, dtype=dtype, batch_size=batch_size, mesh=mesh,
        num_classes=num_classes, pixels=Pixels(pixels, pixel_budget, seed), shard_rows=shard_rows,
        workers=workers, progress=progress, on_error=on_error,
    ).store  # fmt: skip


def extraction(
    model: Model,
    batches: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    logits: bool = True,
    dtype: str = "float32",
    batch_size: int = 64,
    mesh: jax.sharding.Mesh | None = None,
    num_classes: int | None = None,
    pixels: Pixels | None = None,
    shard_rows: int = SHARD_ROWS,
    workers: int = 0,
    progress: bool | Progress = False,
    on_error: str = "raise",
) -> Extraction:
    """`extract` of a `Model`, with what became of it."""
    started = time.perf_counter()
    pixels = pixels or Pixels()
    layout = None if mesh is None else _layout(mesh)
    choose("on_error", on_error, ("raise", "skip"))
    reader = ResumableBatches(batches, model.prepare, batch_size, workers, on_error == "skip")
    model = reader.all_named(model)
    forward = Forward(model, dtype=dtype, logits=logits, layout=layout, size=reader.size)
    targets = Targets(model.level, reader.dataset, num_classes, pixels)
    described: dict[str, Any] = {
        "data": describe_data(reader.dataset, num_classes),
        "layers": model.layers,
        "dtype": dtype,
        "settings": describe_settings(model, logits, pixels),
    }
    with closing(forward):
        first = None
        if out is not None and not is_store(Path(out)):
            first = _first(reader, forward, targets)  # what fails here leaves nothing behind
        with _writer(out, model, shard_rows, described) as writer:
            _take_up(reader, writer, forward, targets, first)
            complete, before = writer.complete, writer.examples
            if not complete:
                with reporter(progress, model.name) as report:
                    _work(reader, writer, forward, targets, first, report)
            examples = writer.examples - before
            store = writer.finish()
    seconds = time.perf_counter() - started
    skipped = store.manifest.get("skipped", {})
    notes = (*forward.notes, *([left_out(skipped)] if skipped else []))
    if complete:
        return Extraction(store, "cached", 0, seconds, notes)
    for note in notes[len(forward.notes) :]:  # the others were said when they were seen
        log.warning("%s: %s", model.name, note)
    return Extraction(store, "resumed" if before else "extracted", examples, seconds, notes)


def _writer(
    out: str | os.PathLike[str] | None, model: Model, shard_rows: int, described: dict[str, Any]
) -> Store:
    """A store in a directory, new or begun before, or in memory."""
    if out is None:
        return MemoryWriter(model={"name": model.name, "card": model.card}, **described)
    return Writer(out, model=describe_model(model), shard_rows=shard_rows, **described)


def _take_up(
    reader: ResumableBatches,
    writer: Store,
    forward: Forward,
    targets: Targets,
    first: _First | None,
) -> None:
    """Make sure that what is stored is of the same model and data."""
    if first is not None and writer.batches and isinstance(writer, Writer):
        raise InputError(
            f"another process has written to {writer.directory} meanwhile: run it again"
        )
    other_data = isinstance(writer, Writer) and writer.other_data
    if writer.batches:
        _check_stored(reader, writer, forward, targets, other_data)
    if isinstance(writer, Writer) and other_data:
        writer.adopt()


def _layout(mesh: Any) -> Layout:
    layout = layout_of(mesh)
    if layout.mesh.local_mesh.size < layout.mesh.size:
        raise InputError(
            "the mesh spans several processes: let each of them extract its own part of the data "
            "over its own devices"
        )
    return layout


def _check_stored(
    reader: ResumableBatches, writer: Store, forward: Forward, targets: Targets, whole: bool
) -> None:
    """Refuse other data than was stored, by some of its batches, or by the whole of them."""
    for batch in reader.recheck(writer.batches, writer.complete, whole):
        forward.warn_unscaled(batch.inputs)
        if reader.dataset is None:
            forward.size = max(forward.size, batch.rows)
        if batch.number == 0 and forward.model.params is None:
            assert isinstance(writer, Writer)
            _compare(forward(batch, targets, 0)(), writer, forward)


def _compare(rows: Rows, writer: Writer, forward: Forward) -> None:
    """Refuse another model than was stored, by its features, where it has no parameters."""
    store = FeatureStore.open(writer.directory, partial=True)
    for layer, now in rows.features.items():
        stored, _ = next(store[layer].source().read(len(now)), (now, None))
        before, now = (np.asarray(rows, np.float64) for rows in (stored, now))
        same = before.shape == now.shape
        scale = np.abs(before).max(initial=0)
        limit = _TOLERANCE.get(forward.dtype, _LEAST_TOLERANCE) * scale
        off = np.abs(before - now).max(initial=0) if same else np.inf
        if not off <= limit:
            raise InputError(
                f"{writer.directory} holds features of another model: layer {layer} of "
                f"{forward.model.name} differs on the first batch by {off:.2g} (largest value "
                f"{scale:.2g}); give the same model, or another directory (out=...)"
            )


class _First(NamedTuple):
    """The rows of the first batch, and the batches that follow."""

    rows: Rows
    batch: Batch
    digest: str
    others: Iterator[Batch]


def _first(reader: ResumableBatches, forward: Forward, targets: Targets) -> _First:
    batches = reader.annotated(())
    batch = next(batches, None)
    if batch is None:
        raise reader.no_batches()
    rows = forward(batch, targets, 0)()
    return _First(rows, batch._replace(inputs=None), digest(batch), batches)


def _work(
    reader: ResumableBatches,
    writer: Store,
    forward: Forward,
    targets: Targets,
    first: _First | None,
    report: Progress,
) -> None:
    """Everything that is not stored yet; an error leaves what was stored."""
    stored, on_disk = writer.examples, isinstance(writer, Writer)
    name = forward.model.name
    report(stored, reader.total, name)

    def store(fetch: Callable[[], Rows], batch: Batch, digest: str) -> None:
        nonlocal stored
        rows = fetch()
        writer.append(*rows, examples=batch.examples, digest=digest, skipped=batch.skipped)
        stored += batch.examples

    batches = reader.annotated(writer.batches) if first is None else first.others
    try:
        if first is not None:
            rows = first.rows
            store(lambda: rows, first.batch, first.digest)
        start = stored
        # a CPU would work on several batches at once, and its caches hold only one
        mesh = None if forward.layout is None else forward.layout.mesh
        ahead = 1 if platform_of(*jax.tree.leaves(forward.params), mesh=mesh) == "cpu" else 2
        with WriteQueue(ahead, threaded=on_disk) as queue:
            for batch in batches:
                fetch = forward(batch, targets, start)
                # the device is at work meanwhile; later the arrays may have been filled again
                digested = digest(batch) if on_disk else ""
                queue.submit(store, fetch, batch._replace(inputs=None), digested)
                start += batch.examples
                report(stored, reader.total, name)
            queue.wait()
            if reader.skipped and stored:
                writer.leave_out(reader.skipped)
                stored += len(reader.skipped)
            report(stored, reader.total, name)
    except Exception as error:
        if on_disk and stored:
            error.add_note(f"{stored} examples are stored: extract again to go on after them")
        raise
    if not stored:
        raise reader.no_batches()
