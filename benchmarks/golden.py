"""Every metric against the values that released implementations give: metric x case x variant.

One table, `LEAVES`, says which value of ``tests/golden/golden.json`` a call must give; the tests
run all of it, and ``python -m benchmarks golden`` prints the relative errors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.settings import say

SHAPES, MOST_CLASSES = ((1800, 128), (210, 512)), 12  # that cases are padded to
FOLDER = Path(__file__).parents[1] / "tests" / "golden"


class Leaf(NamedTuple):
    """One value that a metric must give on every case that has it.

    Attributes:
        metric: its name in the registry, or that of a function of `jaxte.metrics`.
        path: the keys of the value in golden.json, with dots; a comma is a dot within a key.
        options: of the call.
        factor: the golden value is multiplied by it: -1 where published smaller is better, 0.01
            for percentages.
        output: which output of the metric, if not its score.
        source: whether the metric reads the probabilities of the source head.
    """

    metric: str
    path: str
    options: Mapping[str, Any] = {}
    factor: float = 1.0
    output: str = "score"
    source: bool = False

    def outputs(self, x: Any, y: Any, **arguments: Any) -> Mapping[str, Any]:
        """All outputs, of features, targets and the keywords that all metrics share."""
        from jaxte import metrics

        arguments |= self.options
        if self.metric not in metrics.REGISTRY:
            return {"score": getattr(metrics, self.metric)(x, y, **arguments)}
        shared = [arguments.pop(name, None) for name in ("num_classes", "weights", "num_features")]
        metric = metrics.REGISTRY[self.metric]
        return metric.outputs(x, y, *shared, **metric.all_options(arguments))


LEAVES: tuple[Leaf, ...] = (
    # --- SFDA, FaCe ---
    Leaf("sfda", "sfda"),
    Leaf("face", "face.spherical.sum_C_F"),
    Leaf("face", "face.spherical.F_m", output="class_fairness"),
    Leaf("face", "nc1.class_balanced", factor=-1, output="variance_collapse"),
    Leaf("face", "face.diagonal.sum_C_F", {"covariance": "diagonal"}),
    Leaf("face", "face.diagonal.F_m", {"covariance": "diagonal"}, output="class_fairness"),
    # --- source outputs ---
    Leaf("leep", "leep.tllib", source=True),
    Leaf("leep", "leep_mean_prob.direct_numpy_as_stored", {"mean_probability": True}, source=True),
    Leaf("nce", "nce.tllib", source=True),
    Leaf("energy", "energy.percent100_bot"),
    Leaf("energy", "energy.percent50_bot", {"fraction": 0.5}),
    Leaf("energy", "energy.percent50_top", {"fraction": 0.5, "tail": "top"}),
    # --- mixtures and probes ---
    *(
        Leaf("nleep", f"nleep_deterministic.{path}", {"start": "classes"}, output=output)
        for path, output in {
            "mean_log_prob": "log_probability",
            "mean_prob": "mean_probability",
            "pca_dim": "pca_dim",
            "n_iter": "n_iter",
            "lower_bound": "lower_bound",
        }.items()
    ),
    *(
        Leaf(
            "pactran_gaussian",
            f"pactran_gauss.lda_{lam.replace('.', ',')}.converged_variant.pac_gauss_s2_{factor}",
            {"lam": float(lam), "factor": float(factor)},
            factor=-1,
        )
        for lam, factors in {"0.1": (10, 1), "1": (100, 10), "10": (1000, 100)}.items()
        for factor in factors
    ),
    # --- discriminants ---
    Leaf("hscore", "hscore"),
    Leaf("hscore_shrinkage", "hscore_regularized.score"),
    Leaf("hscore_shrinkage", "hscore_regularized.shrinkage_alpha", output="shrinkage"),
    Leaf("lda", "lda_true"),
    Leaf("lda", "lda_true_mean_log_prob", {"log_score": True}),
    Leaf("nearest_class_mean", "lda_official.te"),
    Leaf("nearest_class_mean", "lda_official.etran"),
    *(
        Leaf("ncti", f"ncti.ncti_pca_full_svd.{term}", output=term)
        for term in ("feature_nuc", "cls_conf", "log_class_pred_nuc")
    ),
    # --- separability ---
    Leaf("cdnv", "cdnv", factor=-1),
    Leaf("tmi_variance", "tmi"),
    Leaf("transrate", "transrate.emms"),
    Leaf(
        "transrate",
        "transrate_emab.no_pca",
        {"normalisation": "trace", "class_weights": "frequency"},
    ),
    Leaf("nc1", "nc1.class_balanced", factor=-1),
    Leaf("nc1", "nc1.sample_weighted", {"weighting": "sample_weighted"}, factor=-1),
    Leaf("gbc", "gbc_spherical.float64_replica_floor1e-4", {"variant": "released"}),
    Leaf(
        "gbc",
        "gbc_diagonal.float64_replica_floor1e-4",
        {"variant": "released", "covariance": "diagonal"},
    ),
    # --- pairs of rows ---
    *(Leaf("knn", f"knn.plain_loo_accuracy_k{k}", {"k": k}) for k in (1, 3, 5)),
    Leaf("parc", "parc.n_dims_none_exact_ties", {"num_components": None}),
    Leaf("parc", "parc.n_dims_32_exact_pca_exact_ties"),
    Leaf("knn", "knn.transformer_ranker_k3_pearson_col0", {"k": 3, "measure": "pearson"}),
    # --- label-free ---
    Leaf("rankme", "rankme.features"),
    Leaf("rankme", "rankme.centred_features", {"centred": True}),
    Leaf("effective_rank", "effective_rank_cov.entropy"),
    Leaf(
        "effective_rank",
        "effective_rank_cov.participation_ratio",
        {"measure": "participation_ratio"},
    ),
    Leaf("stable_rank", "effective_rank_cov.stable_rank"),
)


class Check(NamedTuple):
    """A leaf on one case: what is expected, and what jaxte gives."""

    leaf: Leaf
    case: str
    expected: float

    def score(self, dtype: str = "float64") -> float:
        """What jaxte gives; 64-bit types have to be enabled for float64."""
        if self.leaf.source:
            data = case(self.case)
            head = {"probabilities": data["source_probs"].astype(dtype)}
            outputs = self.leaf.outputs(data["features"].astype(dtype), data["labels"], **head)
        else:  # those that differ in the output alone are one call
            calls = [(one.metric, one.options) for one in LEAVES]
            outputs = padded(calls.index((self.leaf.metric, self.leaf.options)), self.case, dtype)
        return float(outputs[self.leaf.output])


@cache
def values() -> dict[str, Any]:
    """All golden values, by case."""
    return dict(json.loads((FOLDER / "golden.json").read_text()))


@cache
def case(name: str) -> Mapping[str, NDArray[Any]]:
    """Features, labels and, of some cases, probabilities of a source head."""
    with np.load(FOLDER / f"{name}.npz") as data:
        return dict(data)


def padded_shape(x: NDArray[Any], y: NDArray[Any]) -> tuple[int, int, int | None]:
    """Rows, columns and classes that a case is padded to, so that cases share programs."""
    n, d = x.shape
    if y.dtype.kind != "i":
        return n, d, None
    return *next(s for s in SHAPES if n <= s[0] and d <= s[1]), MOST_CLASSES


def checks() -> Iterator[Check]:
    """Every leaf on every case that has its value; a value that is an error is none."""
    for leaf in LEAVES:
        for name, value in values().items():
            for key in leaf.path.split("."):
                value = value.get(key.replace(",", ".")) if isinstance(value, Mapping) else None
            if isinstance(value, int | float):
                yield Check(leaf, name, leaf.factor * value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--out", metavar="FILE", help="of the table (golden.csv)")


@cache
def padded(first: int, name: str, dtype: str) -> Mapping[str, Any]:
    """All outputs of a leaf, known by its number, by one program for the cases of a shape."""
    data = case(name)
    x, y = data["features"].astype(dtype), data["labels"]
    n, d = x.shape
    rows, width, classes = padded_shape(x, y)
    shared = {"weights": (np.arange(rows) < n).astype(dtype), "num_features": np.int32(d)}
    program = _program(first, classes)
    x = np.pad(x, ((0, rows - n), (0, width - d)))
    outputs: Mapping[str, Any] = program(x, np.pad(y, (0, rows - n)), **shared)
    return outputs


@cache
def _program(first: int, num_classes: int | None) -> Any:
    """All outputs of a leaf, known by its number, under jit."""
    import jax

    return jax.jit(partial(LEAVES[first].outputs, num_classes=num_classes))


def forget() -> None:
    """Drop programs, and what they made, as where others are to be made for another device."""
    padded.cache_clear()
    _program.cache_clear()


def error(check: Check, dtype: str) -> float:
    """Relative error of one value."""
    import jax

    with jax.enable_x64(dtype == "float64"):
        gap = abs(check.score(dtype) - check.expected) / max(abs(check.expected), 1e-12)
    say(f"{check.leaf.metric} {check.leaf.path} {check.case} {dtype}: {gap:.1e}")
    return gap


def run(arguments: argparse.Namespace) -> int:
    """Write the relative error of every value in both precisions, as CSV."""
    lines = ["metric,options,golden value,case,expected,error float64,error float32"]
    for check in checks():
        options = " ".join(f"{name}={value}" for name, value in check.leaf.options.items())
        about = (check.leaf.metric, options, check.leaf.path, check.case, f"{check.expected:.10g}")
        lines.append(
            ",".join([*about, *(f"{error(check, dtype):.1e}" for dtype in ("float64", "float32"))])
        )
    Path(arguments.out or "golden.csv").write_text("\n".join(lines) + "\n")
    return 0
