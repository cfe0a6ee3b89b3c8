"""Published accuracies reproduce the published figures."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from jaxte import InputError, baselines, evaluate

POOL = evaluate.published("sfda_cnn")["flowers"]
IMAGENET = {model: baselines.source_accuracy(model) for model in POOL}  # the `inb` row of TE-Bench
TAUS = {
    "aircraft": 0.732, "caltech101": 0.630, "cars": 0.732, "cifar10": 0.775, "cifar100": 0.759,
    "dtd": 0.736, "flowers": 0.252, "food": 0.540, "pets": 0.725, "sun397": 0.666, "voc2007": 0.649,
}  # fmt: skip


def test_the_inb_row_of_te_bench() -> None:
    accuracies = evaluate.published("sfda_cnn")
    result = evaluate.evaluate({name: {"inb": IMAGENET} for name in accuracies}, accuracies)
    expected = {
        "weighted_tau": 0.6543, "pearson": 0.5979, "kendall_tau": 0.5680, "rel_at_1": 0.9991,
        "recall_at_3": 0.9091, "spearman": 0.7131, "top1_regret": 0.0845,
    }  # fmt: skip
    for measure, value in expected.items():
        assert result.value("inb", measure) == pytest.approx(value, abs=5.1e-5), measure
    for dataset, value in TAUS.items():
        assert result.value("inb", "weighted_tau", dataset) == pytest.approx(value, abs=5.1e-4)
    assert result.value(evaluate.STATIC) == pytest.approx(0.837, abs=5.1e-4)
    assert result.order() == [evaluate.STATIC, "inb"]
    mean = result.record("inb", "weighted_tau")
    assert mean["low"] < mean["value"] < mean["high"]
    assert mean["without_one_low"] < mean["value"] < mean["without_one_high"]
    assert mean["minus_static_high"] < 0  # more than the spread of the data sets
    assert mean["p_value"] < 0.05 < mean["chance"] < mean["value"]


@pytest.mark.parametrize(
    ("pool", "regime", "models", "datasets", "static"),
    [
        ("sfda_cnn", "full", 11, 11, 0.837),
        ("sfda_cnn", "last_block", 11, 11, 0.707),
        ("sfda_cnn", "linear", 11, 11, 0.616),
        ("sfda_ssl", "full", 12, 11, 0.685),
        ("sfda_ssl", "last_block", 12, 11, 0.482),
        ("sfda_ssl", "linear", 12, 11, 0.789),
        ("sfda_vit", "full", 10, 11, 0.783),
        ("itm", "full", 20, 11, 0.619),
        ("recall_cv", "full", 30, 6, None),
        ("recall_nlp", "full", 39, 21, None),
    ],
)
def test_pools_and_their_static_ranking(
    pool: str, regime: str, models: int, datasets: int, static: float | None
) -> None:
    accuracies = evaluate.published(pool, regime)
    assert len(accuracies) == datasets
    assert {len(table) for table in accuracies.values()} == {models}
    assert accuracies.source
    taus = []
    for name, table in accuracies.items():
        places = evaluate.static_ranking(accuracies, name)
        taus.append(evaluate.weighted_tau([places[m] for m in table], list(table.values())))
    if static is not None:
        assert np.mean(taus) == pytest.approx(static, abs=5.1e-4)


def test_the_etran_fixture() -> None:
    """CIFAR-100, as the notebook of ETran prints its two terms: 0.900, 0.869 and 0.572."""
    models = [
        "inception_v3", "mobilenet_v2", "mnasnet1_0", "densenet121", "densenet169", "densenet201",
        "resnet34", "resnet50", "resnet101", "resnet152", "googlenet",
    ]  # fmt: skip
    lda = np.array(
        [0.56471, 0.56990, 0.57405, 0.60172, 0.62869, 0.64852, 0.62194, 0.60370, 0.64929, 0.65466,
         0.53880]
    )  # fmt: skip
    energy = np.array(
        [7.90476, 7.45075, 7.29762, 7.89105, 8.13498, 8.10232, 7.34287, 7.97049, 7.96303, 8.03975,
         7.18941]
    )  # fmt: skip
    table = evaluate.published("sfda_cnn")["cifar100"]
    truth = [table[model] for model in models]
    scaled = [(v - v.min()) / np.ptp(v) for v in (energy, lda)]
    scores = {"etran": 0.15 * scaled[0] + 0.85 * scaled[1], "lda": lda, "energy": energy}
    for name, expected in (("etran", 0.8998), ("lda", 0.8687), ("energy", 0.5720)):
        assert evaluate.weighted_tau(scores[name], truth) == pytest.approx(expected, abs=5.1e-5)


def test_what_is_suspect_is_said_and_the_unknown_is_listed() -> None:
    linear = evaluate.published("sfda_cnn", "linear")
    assert "sun397" in linear.notes[0]
    assert linear["sun397"]["resnet50"] > evaluate.published("sfda_cnn")["sun397"]["resnet50"]
    scores = {name: {"inb": IMAGENET} for name in ("pets", "sun397", "dtd")}
    result = evaluate.evaluate(scores, linear, draws=10)
    assert linear.notes[0] in result.notes
    assert "linear head" in repr(result)
    for wrong in (("sfda_cnn", "half"), ("imagenet", "full")):
        with pytest.raises(InputError, match=r"sfda_cnn/last_block.*recall_nlp/full"):
            evaluate.published(*wrong)


def test_static_ranking_and_ceiling_by_hand() -> None:
    accuracies: dict[str, dict[str, Any]] = {
        "one": {"a": 3, "b": 2, "c": 1},
        "two": {"a": 2, "b": 2, "c": 1},
        "odd": {"a": [1, 1], "b": [2, 2], "c": [3, 3]},
        "lone": {"a": 5},
    }
    assert evaluate.static_ranking(accuracies, "odd") == {"a": 0.875, "b": 0.625, "c": 0}
    assert set(evaluate.static_ranking(accuracies, "one")) == {"a", "b", "c"}
    agreeing, turned = [[3, 3], [2, 2], [1, 1]], [[3, 1], [2, 2], [1, 3]]
    assert evaluate.noise_ceiling(agreeing) == pytest.approx(1)
    assert evaluate.noise_ceiling(turned) == pytest.approx(-1)
    assert evaluate.noise_ceiling(turned, evaluate.top1_regret) == 2
    assert np.isnan(evaluate.noise_ceiling([[1], [2], [3]]))
    many = np.arange(3)[:, None] + np.random.default_rng(0).normal(size=(3, 12)) / 9
    assert evaluate.noise_ceiling(many) == pytest.approx(1)  # a hundred of 924 splits
    with pytest.raises(InputError, match="models, seeds"):
        evaluate.noise_ceiling([1, 2, 3])


def test_no_pool_has_a_model_twice() -> None:
    for key in evaluate.PUBLISHED:
        tables = list(evaluate.published(*key).values())
        assert all(list(one) == list(other) for one, other in pairwise(tables))
