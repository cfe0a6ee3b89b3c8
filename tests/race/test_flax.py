"""Flax models raced for real: nnx, linen, functions, the zoo; classes and numbers."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxte
from jaxte import zoo
from jaxte.errors import InputError
from jaxte.extraction import as_model
from jaxte.race import Recipe
from jaxte.race.memo import JOURNAL
from jaxte.race.steps import split
from jaxte.race.trainer import Trainer, scores_of

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

WIDTH = 12
SHORT = Recipe(epochs=4, fewest=200, stages=(0.25, 1.0), batch=8, rates=(1e-2,), shift=0)


class Network(nnx.Module):  # type: ignore[name-defined]
    def __init__(self, seed: int, blind: bool = False) -> None:
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(WIDTH, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(16, 2, rngs=rngs)
        self.blind = blind

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.zeros_like(x) if self.blind else x
        hidden: jax.Array = self.drop(nnx.relu(self.norm(self.first(x))))
        return self.head(hidden)


class Linen(linen.Module):  # type: ignore[name-defined]
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Dense(16)(x)
        x = linen.BatchNorm(use_running_average=True)(x)
        return linen.Dense(3)(linen.relu(x))


def data(regression: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    inputs = rng.normal(size=(90, WIDTH)).astype(np.float32)
    inputs[:, :3] += 2 * np.eye(3, dtype=np.float32)[labels]
    return (inputs, inputs[:, :1] - inputs[:, 1:2]) if regression else (inputs, labels)


def pool() -> dict[str, Any]:
    variables = Linen().init(jax.random.key(0), jnp.ones((1, WIDTH)))
    kernel = jax.random.normal(jax.random.key(1), (WIDTH, 8)) / 3
    function = as_model(lambda v, x: jax.nn.relu(x @ v["w"]), variables={"w": kernel})
    return {
        "nnx": Network(0),
        "blind": Network(1, blind=True),
        "linen": (Linen(), variables),
        "function": function,
    }


@pytest.mark.parametrize("regression", [False, True])
def test_kinds_of_models_race(regression: bool, tmp_path: Path) -> None:
    race = jaxte.race(
        pool(), data(regression), budget=0.9, recipe=SHORT, resume=tmp_path, confidence=0.9999
    )
    assert set(race.status.values()) == {"ok"}
    assert race.order()[-1] == "blind"
    assert race.p_best["blind"] < 0.1
    assert 0.2 < race.cost <= 0.9
    best = race.start(race.best)
    assert best.share > 0
    assert best.bias.shape == (1 if regression else 3,)
    again = jaxte.race(
        pool(), data(regression), budget=0.9, recipe=SHORT, resume=tmp_path, confidence=0.9999
    )
    assert again.to_records() == race.to_records()
    assert again.meta["replayed"] == again.meta["trials"]
    same = again.start(again.best)
    np.testing.assert_array_equal(best.kernel, same.kernel)
    np.testing.assert_array_equal(best.bias, same.bias)


def test_start_is_trained_where_it_should_be_and_works() -> None:
    inputs, labels = data()
    models = {"nnx": Network(0), "other": Network(2)}
    race = jaxte.race(models, (inputs, labels), budget=1.5, recipe=SHORT, confidence=0.9999)
    start, model = race.start("nnx"), as_model(models["nnx"])
    features = model.apply(start.params, inputs)["penultimate"]
    accuracy = ((features @ start.kernel + start.bias).argmax(1) == labels).mean()
    assert accuracy > 0.9
    before, after = nnx.to_flat_state(model.params), nnx.to_flat_state(start.params)
    for (path, old), (_, new) in zip(before, after, strict=True):
        if isinstance(old, nnx.BatchStat):
            np.testing.assert_array_equal(old[...], new[...])
        elif path == ("first", "kernel"):
            assert not np.array_equal(old[...], new[...])
    frozen = jaxte.race(models, (inputs, labels), budget=0.15, recipe=SHORT)
    assert frozen.start("nnx").share == 0
    features = as_model(models["nnx"]).apply(frozen.start("nnx").params, inputs)["penultimate"]
    head = frozen.start("nnx")
    assert ((features @ head.kernel + head.bias).argmax(1) == labels).mean() > 0.8


def test_only_parameters_are_trained() -> None:
    body, rest, _ = split(as_model(Network(0)))
    assert len(body) == 6
    assert len(rest) == 4  # mean and variance, key and count of the dropout
    module, variables = pool()["linen"]
    linen_model = as_model(module, variables=variables)
    assert [len(part) for part in split(linen_model)[:2]] == [6, 2]
    body, rest, _ = split(as_model(zoo.load("mlp-mnist")))
    assert [leaf.shape for leaf in rest] == [(3,), (3,)]
    with pytest.raises(InputError, match="no parameters to train"):
        split(as_model(lambda x: x))


def test_two_rates_pay_for_both() -> None:
    models = {"nnx": Network(0), "other": Network(2)}
    both = SHORT._replace(rates=(1e-3, 1e-2))
    prices = [
        [rung.price for rung in Trainer(models, data(), recipe, budget=1.0).rungs]
        for recipe in (SHORT, both)
    ]
    assert prices[1] == [prices[0][0], *(2 * price for price in prices[0][1:])]
    race = jaxte.race(models, data(), budget=0.6, recipe=both, confidence=0.9999)
    assert race.meta["trials"] > 2
    assert race.cost <= 0.6


def test_a_small_budget_judges_fewer_examples() -> None:
    models = {"nnx": Network(0), "other": Network(2)}
    # 0.05 of 360 images, at a third each, or two where all layers are asked, too
    for prior, judged in ((None, 54), ("layers", 40)):
        race = jaxte.race(models, data(), budget=0.05, recipe=SHORT, prior=prior)
        assert race.meta["examples"] == judged  # never fewer than 40
        assert race.cost <= 0.05


def test_zoo_race_on_its_own_names(tmp_path: Path) -> None:
    names = ["zoo:mlp-mnist", "zoo:plain-cnn-mnist"]
    recipe = Recipe(stages=(0.05,), fewest=0)
    spec = "zoo:digits/train?subset=100"
    race = jaxte.race(names, spec, budget=0.06, recipe=recipe, resume=tmp_path)
    assert race.models == ("mlp-mnist", "plain-cnn-mnist")
    assert race.cost <= 0.06
    assert race.meta["trials"] > 2
    assert race.to_records()[0]["score"] > 0.3
    with pytest.raises(InputError, match="not the model that its trials"):
        jaxte.race(
            {"mlp-mnist": zoo.load("plain-cnn-mnist"), "plain-cnn-mnist": zoo.load("mlp-mnist")},
            spec, budget=0.06, recipe=recipe, resume=tmp_path,
        )  # fmt: skip
    with pytest.raises(InputError, match="a race of other data"):
        jaxte.race(
            names, "zoo:digits/train?subset=101", budget=0.06, recipe=recipe, resume=tmp_path
        )
    assert (tmp_path / JOURNAL).is_file()


def test_models_that_cannot_be_trained_fail_alone() -> None:
    models = {**pool(), "closed": lambda x: x, "numpy": as_model(np.asarray, traced=False)}
    models["nan"] = as_model(lambda v, x: x @ v["w"], variables={"w": jnp.full((WIDTH, 4), np.nan)})
    race = jaxte.race(models, data(), budget=0.9, recipe=SHORT, confidence=0.9999)
    assert "not finite" in race.status["nan"]
    assert "cannot trace" in race.status["numpy"]
    assert race.status["nnx"] == "ok"
    assert race.p_best["nan"] == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.ones((90, WIDTH)), np.full((90, 1), 0.5)), "the same in every example"),
        ((np.ones((3, WIDTH)), np.arange(3) % 2), "a race needs more"),
    ],
)
def test_data_that_says_nothing_is_refused(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        jaxte.race({"a": Network(0), "b": Network(1)}, source, recipe=SHORT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": (0.5, 0.2)}, "stages are"),
        ({"stages": (0.5, 2.0)}, "stages are"),
        ({"rates": ()}, "rates are"),
        ({"rates": (0.0,)}, "rates are"),
        ({"folds": 1}, "folds is 1: at least 2"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_recipes_by_which_nothing_is_trained_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        jaxte.race(["zoo:mlp-mnist", "zoo:vgg-cifar"], data(), recipe=Recipe(**settings))


def test_scores_lie_between_zero_and_one_and_rise_with_what_is_right() -> None:
    targets = np.eye(4)[np.arange(40) % 4]
    noise = np.random.default_rng(0).normal(size=(40, 4))
    means = [scores_of(noise + gain * targets, targets, False).mean() for gain in (0, 1, 3)]
    assert 0 < means[0] < means[1] < means[2] < 1
    assert np.isnan(scores_of(np.full((40, 4), np.nan), targets, False)).all()
    assert scores_of(targets, targets, True).tolist() == [1.0] * 40


def test_one_function_costs_what_its_variables_do() -> None:
    def model(variables: jax.Array, x: jax.Array) -> jax.Array:
        return x @ variables

    pool = {f"{width}": as_model(model, variables=jnp.ones((WIDTH, width))) for width in (3, 300)}
    costs = Trainer(pool, data(), SHORT, budget=1.0).costs()
    assert costs["300"] > 50 * costs["3"]


def test_rungs_are_those_of_a_trial() -> None:
    with pytest.raises(InputError, match="rungs are those of trial"):
        jaxte.race(pool(), data(), rungs=(0.5, 1.0))
