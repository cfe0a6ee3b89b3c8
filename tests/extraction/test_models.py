"""as_model(), resolve() and fingerprint() of functions, and of what is no model at all."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxte import InputError
from jaxte.extraction import Model, as_model, fingerprint, resolve
from jaxte.extraction.models import settled

X = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(12, 6)).astype(np.float32)


def flat(x: Any) -> Any:
    return x.reshape(len(x), -1)


def project(w: Any, x: Any) -> Any:
    return jnp.tanh(flat(x) @ w)


def on_host(x: Any) -> Any:
    return np.asarray(x, np.float64).sum(axis=2)


def test_a_function_gives_one_layer_of_features() -> None:
    model = as_model(flat)
    assert (model.name, model.layers, model.level) == ("flat", ("features",), "example")
    out = jax.jit(model.apply)(None, X)
    assert list(out) == ["features"]
    np.testing.assert_array_equal(out["features"], X.reshape(5, -1))


def test_variables_are_an_argument() -> None:
    one, other = (as_model(project, variables=w) for w in (W, 2 * W))
    assert one.apply == other.apply
    assert hash(one.apply) == hash(other.apply)
    np.testing.assert_allclose(
        other.apply(other.params, X)["features"], project(2 * W, X), rtol=1e-6
    )
    assert as_model(flat).apply != as_model(flat).apply  # it may close over large arrays


def test_keys_of_a_dict_are_layers() -> None:
    def several(x: Any) -> dict[str, Any]:
        return {"low": x, "high": 2 * flat(x), "logits": flat(x)[:, :2]}

    model = as_model(several, layers=("high", "low"), pool="max")
    out = model.apply(None, X)
    assert list(out) == ["high", "low", "logits"]
    np.testing.assert_array_equal(out["low"], X.max(axis=1))
    np.testing.assert_array_equal(out["logits"], X.reshape(5, -1)[:, :2])

    only = as_model(lambda x: {"last": flat(x), "logits": flat(x)[:, :2]})
    assert list(only.apply(None, X)) == ["features", "logits"]
    with pytest.raises(InputError, match=r"returns a dict with 'low', 'high', 'logits', not 'feat"):
        as_model(several).apply(None, X)
    with pytest.raises(InputError, match="not a dict with low"):
        as_model(flat, layers="low").apply(None, X)


def test_whether_a_function_can_be_traced_shows_on_the_first_batch() -> None:
    assert as_model(flat).traced is None
    assert settled(as_model(flat), X).traced is True
    host = settled(as_model(on_host), X)
    assert host.traced is False
    np.testing.assert_allclose(host.apply(None, X)["features"], X.sum(axis=2), rtol=1e-6)
    assert settled(as_model(flat, traced=False), X).traced is False

    def broken(x: Any) -> Any:
        raise RuntimeError("no such weights")

    with pytest.raises(RuntimeError, match="no such weights"):
        settled(as_model(broken), X)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_compute_dtype(dtype: str) -> None:
    seen = []

    def projected(w: Any, x: Any) -> Any:
        seen.append((w.dtype, x["x"].dtype, x["id"].dtype))
        return project(w, x["x"])

    model = as_model(projected, variables=W, compute_dtype=dtype)
    out = model.apply(model.params, {"x": X, "id": np.arange(5, dtype=np.int32)})["features"]
    assert seen == [(jnp.dtype(dtype), jnp.dtype(dtype), np.dtype(np.int32))]
    assert out.dtype == np.float32
    assert 0 < np.abs(out - project(W, X)).max() < 0.05
    assert model.card["compute_dtype"] == dtype


def test_wide_floats_stay_wide(x64: None) -> None:
    out = as_model(flat).apply(None, jnp.asarray(X, jnp.float64))
    assert out["features"].dtype == np.float64


def test_a_model_is_a_model_already() -> None:
    model = as_model(lambda x: {"a": x, "b": x}, layers=("a", "b"))
    some = as_model(model, layers="b", name="short", prepare=np.stack)
    assert (some.name, some.layers, some.card["layers"]) == ("short", ("b",), ["b"])
    assert some.prepare is np.stack
    assert some.card["preprocessing"] == "numpy.stack"
    assert as_model(model).apply is model.apply
    with pytest.raises(InputError, match=r"no layer 'c': it has a, b"):
        as_model(model, layers="c")
    with pytest.raises(InputError, match="is a Model already"):
        as_model(model, pool="max")
    with pytest.raises(InputError, match="of level 'example', not 'token'"):
        as_model(model, level="token")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pool": "median"}, "unknown pool 'median'"),
        ({"level": "word"}, "unknown level 'word'"),
        ({"compute_dtype": "int8"}, "unknown compute_dtype 'int8'"),
        ({"layers": ()}, "name at least one"),
        ({"layers": ("a", "a")}, "each once"),
        ({"prepare": {"side": 3}}, "images have no 'side': there are size"),
        ({"prepare": {"mean": (0.5,)}}, "images need a size"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        as_model(flat, **options)


def test_what_is_no_model() -> None:
    with pytest.raises(InputError, match="a ndarray is no model: give a function"):
        as_model(W)


# --- specifications ------------------------------------------------------------------------------

MODULE = """
import jaxte.extraction
def features(x): return x.reshape(len(x), -1)
def made(): return lambda x: 2 * x
class Callable:
    def __call__(self, x): return 3 * x
class inner: one = staticmethod(features)
done = jaxte.extraction.as_model(features, name="done")
"""


def test_specifications_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    monkeypatch.delitem(sys.modules, "their_models", raising=False)
    x = np.ones((2, 3), np.float32)
    expected = {"features": 1, "made": 2, "Callable": 3, "inner.one": 1, "done": 1}
    for attribute, factor in expected.items():
        model = resolve(f"python:their_models:{attribute}")
        np.testing.assert_array_equal(model.apply(None, x)["features"], factor * x)
    assert model.name == "done"
    assert resolve("python:their_models:features", name="mine", pool="max").name == "mine"
    with pytest.raises(InputError, match="their_models has no attribute nothing"):
        resolve("python:their_models:nothing")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("resnet", "the forms are zoo:NAME"),
        ("zoo:", "the forms are"),
        ("tfhub:x", "the forms are"),
        ("zoo:resnet", "no zoo model named 'resnet'"),
        ("python:os", "names no attribute"),
        ("python:no_such_module_here:x", "there is no module no_such_module_here"),
    ],
)
def test_specifications_that_name_nothing(spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolve(spec)


def test_a_module_that_lacks_another_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking_models.py").write_text("import no_such_module_there\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_there"):
        resolve("python:lacking_models:x")


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, spec in (("transformers", "hf:some/model"), ("timm", "timm:resnet18")):
        monkeypatch.setitem(sys.modules, package, None)
        extra = spec.partition(":")[0]
        with pytest.raises(ImportError, match=rf'{spec} needs \w+, .* pip install "jaxte\[{extra}'):
            resolve(spec)


# --- fingerprints --------------------------------------------------------------------------------


def model(params: Any = None, **changes: Any) -> Model:
    return Model(
        **{"name": "m", "apply": print, "layers": ("a",), "params": params, "card": {}} | changes
    )


PARAMS = {"w": W, "b": {"scale": np.float32(3), "steps": np.arange(4, dtype=np.int32)}}
OTHERS: dict[str, Callable[[], Any]] = {
    "a value": lambda: {**PARAMS, "w": W + np.eye(12, 6, dtype=np.float32) * 1e-6},
    "a type": lambda: {**PARAMS, "w": W.view(np.int32)},
    "a shape": lambda: {**PARAMS, "w": W.reshape(6, 12)},
    "a name": lambda: {"v": W, "b": PARAMS["b"]},
    "one less": lambda: {"w": W},
    "an order": lambda: {**PARAMS, "w": np.asfortranarray(W)[::-1]},
    "none": lambda: None,
}


@pytest.mark.parametrize("other", OTHERS)
def test_fingerprints_tell_models_apart_by(other: str) -> None:
    assert fingerprint(model(PARAMS)) != fingerprint(model(OTHERS[other]()))


def test_fingerprints_are_those_of_the_values() -> None:
    source = fingerprint(model(PARAMS))
    assert source == fingerprint(model(jax.tree.map(jnp.asarray, PARAMS)))
    assert source == fingerprint(model({**PARAMS, "w": np.asfortranarray(W)}))
    assert source == fingerprint(model(PARAMS, name="other", apply=repr))
    assert source != fingerprint(model(PARAMS, card={"pool": "max"}))
    assert fingerprint(model(card={"a": 1, "b": 2})) == fingerprint(model(card={"b": 2, "a": 1}))
    half = W.astype(ml_dtypes.bfloat16)
    assert fingerprint(model(half)) == fingerprint(model(jnp.asarray(half)))
    keys = [fingerprint(model(jax.random.key(seed))) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


def test_fingerprints_are_the_same_in_every_process() -> None:
    code = "from jaxte.extraction import *; print(fingerprint(resolve('zoo:resnet-cifar')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(resolve("zoo:resnet-cifar"))


def test_models_of_other_levels_are_refused() -> None:
    with pytest.raises(InputError, match="has level 'pixel'"):
        replace(model(), level="pixel")


@pytest.mark.parametrize("layers", ["", [], ["features", ""]])
def test_layers_have_names(layers: Any) -> None:
    with pytest.raises(InputError, match="layers are empty"):
        as_model(project, variables=W, layers=layers)
