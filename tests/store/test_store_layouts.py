"""Directories of stores and of TE-Bench probes, read and ranked from the command line."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import jaxte
from jaxte import InputError
from jaxte.cli import app, processes
from jaxte.cli.processes import Processes
from jaxte.intake.sources import Source
from jaxte.store import read_features

from .data import X, Y, Z, begun, stored


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the user's cache directory."""
    monkeypatch.setenv("JAXTE_CACHE", "off")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def named(model: str | None, data: str | None) -> dict[str, dict[str, str]]:
    return {
        "model": {} if model is None else {"name": model},
        "data": {} if data is None else {"name": data},
    }


def loaded(features: object) -> np.ndarray:
    return features.load() if isinstance(features, Source) else np.asarray(features)


def scores(result: Result) -> dict[str, float]:
    assert result.exit_code == 0, result.output
    return {r["model"]: float(r["score"]) for r in csv.DictReader(io.StringIO(result.stdout))}


def test_a_directory_that_is_a_store(tmp_path: Path) -> None:
    stored(tmp_path)
    actual = read_features(tmp_path)
    assert list(actual.features) == ["net@blocks/1", "net@head"]
    np.testing.assert_array_equal(loaded(actual.features["net@head"]), Z)
    np.testing.assert_array_equal(actual.labels["net@head"], Y)
    assert actual.problems == {}


@pytest.mark.parametrize("nested", [False, True])
def test_directories_of_stores(nested: bool, tmp_path: Path) -> None:
    for model in ("vit", "cnn"):
        stored(tmp_path / (f"{model}/toy" if nested else f"dir-{model}"), **named(model, "toy"))
    np.save(tmp_path / "extra.npy", X)
    np.save(tmp_path / "labels.npy", Y)
    actual = read_features(tmp_path)
    layers = ["cnn@blocks/1", "cnn@head", "vit@blocks/1", "vit@head"]
    assert list(actual.features) == [*layers[:2], "extra", *layers[2:]]
    assert actual.problems == {}
    chosen = read_features(tmp_path, dataset="toy")
    assert list(chosen.features) == layers


def test_names_of_directories_serve_where_manifests_have_none(tmp_path: Path) -> None:
    stored(tmp_path / "vit" / "digits", **named(None, None))
    stored(tmp_path / "cnn" / "digits", **named(None, None))
    for argument in (None, "digits"):
        actual = read_features(tmp_path, dataset=argument)
        assert {name.partition("@")[0] for name in actual.features} == {"vit", "cnn"}


def test_a_choice_among_data_sets_of_stores(tmp_path: Path) -> None:
    for model in ("vit", "cnn"):
        for data in ("tfds:digits/train[:500]", "food"):
            stored(tmp_path / model / data[:4].strip(":"), **named(model, data))
    np.save(tmp_path / "cnn_pets_feature.npy", X)
    np.save(tmp_path / "cnn_pets_label.npy", Y)
    with pytest.raises(InputError, match=r"food, pets, tfds:digits/train\[:500\].*--dataset"):
        read_features(tmp_path)
    for name in ("tfds:digits/train[:500]", "tfds", "food"):
        actual = read_features(tmp_path, dataset=name)
        assert len(actual.features) == 4
        assert actual.problems == {}
    assert list(read_features(tmp_path, dataset="pets").features) == ["cnn"]
    with pytest.raises(InputError, match=r"no store or probe of that data set: there is food, "):
        read_features(tmp_path, dataset="cars")


def test_one_model_in_several_stores_is_called_by_its_directories(tmp_path: Path) -> None:
    for pool in ("mean", "cls"):
        stored(tmp_path / f"vit-{pool}", **named("vit", "toy"), settings={"pool": pool})
    actual = read_features(tmp_path)
    assert [name.partition("@")[0] for name in actual.features] == ["vit-cls"] * 2 + [
        "vit-mean"
    ] * 2


def test_stores_that_cannot_be_used_stop_no_other(tmp_path: Path) -> None:
    stored(tmp_path / "good", **named("good", "toy"))
    begun(tmp_path / "unfinished", 4, **named("unfinished", "toy"))
    stored(tmp_path / "damaged", **named("damaged", "toy"))
    (tmp_path / "damaged" / "labels" / "labels-000000.npy").unlink()
    stored(tmp_path / "tampered", **named("tampered", "toy"))
    (tmp_path / "tampered" / "manifest.json").write_text("{")
    actual = read_features(tmp_path)
    assert list(actual.features) == ["good@blocks/1", "good@head"]
    assert sorted(actual.problems) == ["damaged", "tampered", "unfinished"]
    assert "labels-000000.npy is missing" in actual.problems["damaged"]
    assert "is unfinished: 21 rows in 4 batches" in actual.problems["unfinished"]
    assert "manifest.json cannot be read" in actual.problems["tampered"]


# --- TE-Bench -------------------------------------------------------------------------------------


def probe(folder: Path, target: str, x: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{target}.npz", features=x, labels=Y, logits=x)
    (folder / f"{target}.json").write_text('{"feature_dim": 5}')
    np.savez(folder / "_weights.npz", W_classifier=x)
    (folder / "_weights.json").write_text("{}")


def test_te_bench_probes_are_no_shards(tmp_path: Path) -> None:
    for model, factor in (("resnet50", 1), ("vit", 2)):
        probe(tmp_path / model, "dtd", factor * X)
    actual = read_features(tmp_path)
    assert list(actual.features) == ["resnet50", "vit"]
    np.testing.assert_array_equal(loaded(actual.features["vit"]), 2 * X)
    probe(tmp_path / "vit", "pets", 3 * X)
    with pytest.raises(InputError, match="several data sets"):
        read_features(tmp_path)
    assert list(read_features(tmp_path, dataset="dtd").features) == ["resnet50", "vit"]
    pets = read_features(tmp_path, dataset="pets")
    np.testing.assert_array_equal(loaded(pets.features["vit"]), 3 * X)
    ranking = jaxte.rank({"a": tmp_path / "resnet50"}, metrics="face")
    assert ranking.status("a", "face") == "ok"
    with pytest.raises(InputError, match=r"probes of several data sets \(dtd, pets\)"):
        jaxte.rank({"a": tmp_path / "vit"}, metrics="face")


# --- the command line -----------------------------------------------------------------------------


def test_the_command_ranks_stores(tmp_path: Path) -> None:
    stored(tmp_path / "net" / "toy")
    stored(tmp_path / "net" / "other", **named("net", "other"))
    refused = run("rank", tmp_path)
    assert refused.exit_code == 2
    assert "several data sets (other, toy): choose one (--dataset)" in refused.stderr
    options = ("--metrics", "face", "--format", "csv")
    actual = scores(run("rank", tmp_path, "--dataset", "toy", *options))
    wanted = jaxte.rank({"net@blocks/1": X, "net@head": Z}, Y, metrics="face")
    assert actual == {m: pytest.approx(wanted.score(m, "face"), rel=1e-9) for m in wanted.models}
    assert scores(run("rank", tmp_path / "net" / "toy", *options)) == actual


@pytest.mark.parametrize("count", [2, 7])
def test_processes_share_the_rows_of_a_store(count: int, tmp_path: Path) -> None:
    stored(tmp_path, **{"dtype": "float16"})
    whole = read_features(tmp_path)
    groups = [Processes(None, count, "host:1", index) for index in range(count)]
    parts = [processes.share(whole, group) for group in groups]
    for name, features in whole.features.items():
        shares = [np.asarray(part.features[name]) for part in parts]
        np.testing.assert_array_equal(np.concatenate(shares), loaded(features))
        labels = np.concatenate([part.labels[name] for part in parts])
        np.testing.assert_array_equal(labels, Y)
