"""Flax linen models and those of the zoo: layers by path."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import linen

from jaxte import InputError, zoo
from jaxte.extraction import as_model, fingerprint

from .compiled import run

R = np.random.default_rng(0)
X: Any = R.normal(size=(5, 4)).astype(np.float32)


class Tower(linen.Module):
    width: int = 6
    scanned: bool = False

    @linen.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = linen.relu(linen.Dense(self.width, name="first")(x))
        x = linen.Dropout(0.5, deterministic=not train)(x)
        x = linen.remat(linen.Dense)(self.width, name="remat")(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        if self.scanned:
            scan = linen.scan(
                Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=2
            )
            x, _ = scan(self.width, name="steps")(x, None)
        return linen.Dense(3, name="head")(x)


class Step(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x: Any, _: Any) -> Any:
        return linen.Dense(self.width, name="inner")(x), None


def tower(seed: int = 0, **options: Any) -> tuple[Tower, Any]:
    module = Tower(**options)
    variables = module.init(jax.random.key(seed), X, train=False)
    stats = jax.tree.map(lambda leaf: leaf * 2 + 0.5, variables["batch_stats"])
    return module, {**variables, "batch_stats": stats}


def test_linen_layers_by_path() -> None:
    module, variables = tower()
    layers = ("penultimate", "first", "remat")
    out = run(as_model(module, variables=variables, layers=layers), X)
    params, stats = variables["params"], variables["batch_stats"]["norm"]

    def dense(name: str, x: Any) -> Any:
        return x @ params[name]["kernel"] + params[name]["bias"]

    first = dense("first", X)
    remat = dense("remat", np.maximum(first, 0))
    normal = (remat - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    for name, expected in (
        ("first", first),
        ("remat", remat),
        ("penultimate", normal),
        ("logits", dense("head", normal)),
    ):
        np.testing.assert_allclose(out[name], expected, rtol=1e-5, atol=1e-5)
    whole: Any = module.apply(variables, X, train=False)
    np.testing.assert_allclose(out["logits"], whole, rtol=1e-6)


def test_linen_paths_that_are_wrong_and_variables_that_lack() -> None:
    module, variables = tower(scanned=True)
    with pytest.raises(InputError, match="no layer 'frist': did you mean 'first'"):
        run(as_model(module, variables=variables, layers="frist"), X)
    with pytest.raises(InputError, match="'steps/inner' runs inside a transformation"):
        run(as_model(module, variables=variables, layers="steps/inner"), X)
    with pytest.raises(InputError, match=r"Tower is a linen module .*got nothing"):
        as_model(module)
    with pytest.raises(InputError, match=r"got first, "):
        as_model(module, variables=variables["params"])


def test_linen_models_of_one_architecture_are_equal() -> None:
    one, other, wider = (
        as_model(module, variables=variables)
        for module, variables in (tower(0), tower(1), tower(0, width=7))
    )
    assert one.apply == other.apply != wider.apply
    assert fingerprint(one) != fingerprint(other)
    assert one.card["architecture"] == other.card["architecture"] != wider.card["architecture"]
    assert fingerprint(one) == fingerprint(as_model(tower(0)[0], variables=tower(0)[1]))


# --- the zoo -------------------------------------------------------------------------------------


def test_zoo_models_give_the_features_of_the_zoo() -> None:
    images = zoo.load_target("digits").train_images[:7]
    for name in ("vit-quickdraw", "resnet-cifar"):
        source = zoo.load(name)
        model = as_model(source)
        assert model.prepare is not None
        out = run(model, model.prepare(list(images)))
        np.testing.assert_allclose(
            out["penultimate"], source.features(images), rtol=1e-5, atol=1e-5
        )
        assert (model.name, list(out)) == (name, ["penultimate"])


def test_zoo_models_share_compilations_and_have_layers() -> None:
    one, other = (as_model(zoo.load(name), layers="blocks/1") for name in ("resnet-cifar",) * 2)
    assert one.apply == other.apply
    assert one.prepare is not None
    images = one.prepare([R.integers(0, 255, (9 + i, 12, 3), dtype=np.uint8) for i in range(3)])
    assert images.shape == (3, 32, 32, 3)
    assert run(one, images)["blocks/1"].shape == (3, 32)
    maps = as_model(zoo.load("vit-quickdraw"), layers=["mlp/0", "mlp/1"], level="dense")
    assert run(maps, images)["mlp/1"].shape[:3] == (3, 8, 8)
