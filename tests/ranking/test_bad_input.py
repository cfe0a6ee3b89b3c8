"""Bad input outside jit: an InputError that names the problem and says what to do."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_kind, blobs, regression

import jaxte
from jaxte import InputError, perturb
from jaxte.metrics import REGISTRY, face, get_metric, logme, logme_fit, sfda

X, Y = blobs(12, 5, classes=3)
X = as_kind("source", np.exp(X))  # so that metrics of probabilities take them, too
KERNELS = {name: metric.function for name, metric in REGISTRY.items()}
LABEL_FREE = {metric.function for metric in REGISTRY.values() if metric.label_free}
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


def spoiled(row: int, column: int, value: float) -> np.ndarray:
    x = X.copy()
    x[row, column] = value
    return x


def weights(value: float) -> np.ndarray:
    w = np.ones(12)
    w[4] = value
    return w


CALLS: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "label-too-large": (X, Y, {"num_classes": 2}, "labels contain 2, but num_classes is 2"),
    "negative-label": (X, Y - 1, {}, "labels contain -1"),
    "lengths-differ": (X, Y[:-1], {}, r"\(11,\).*12 rows"),
    "labels-2d": (X, np.stack([Y, Y], 1), {}, r"integers of shape \[12, 2\].*one class"),
    "empty": (X[:0], Y[:0], {}, "empty"),
    "no-columns": (X[:, :0], Y, {}, "empty"),
    "one-class": (X, np.zeros(12, int), {}, "at least two classes"),
    "nan": (spoiled(7, 1, np.nan), Y, {}, "NaN or infinity.*row 7"),
    "infinity": (spoiled(3, 0, -np.inf), Y, {}, "NaN or infinity.*row 3"),
    "features-1d": (X[:, 0], Y, {}, r"matrix \[n, d\]"),
    "features-3d": (X[None], Y, {}, r"matrix \[n, d\].*vmap"),
    "objects": (X.astype(object), Y, {}, "dtype object"),
    "ragged": (np.array([[1.0], [1.0, 2.0]] * 6, dtype=object), Y, {}, "object"),
    "negative-weight": (X, Y, {"weights": weights(-1.0)}, r"weights\[4\] is -1"),
    "nan-weight": (X, Y, {"weights": weights(np.nan)}, r"weights\[4\] is nan"),
    "infinite-weight": (X, Y, {"weights": weights(np.inf)}, r"weights\[4\] is inf"),
    "weights-length": (X, Y, {"weights": np.ones(11)}, "weights.*12 rows"),
    "no-weight": (X, Y, {"weights": np.zeros(12)}, "all weights are 0"),
    "one-class-left": (X, Y, {"weights": Y == 1}, "at least two classes"),
    "num-features-too-large": (X, Y, {"num_features": 6}, r"num_features is 6.*1\.\.5"),
    "num-features-zero": (X, Y, {"num_features": 0}, "num_features is 0"),
    "padding-not-zero": (X, Y, {"num_features": 3}, "num_features"),
    "num-classes-zero": (X, Y, {"num_classes": 0}, "num_classes"),
}


OF_LABELS = {"label-too-large", "negative-label", "lengths-differ", "labels-2d", "one-class"}
OF_LABELS |= {"one-class-left"}


@each_kernel
@pytest.mark.parametrize("name", CALLS)
def test_every_kernel_explains(kernel: Any, name: str) -> None:
    features, labels, options, message = CALLS[name]
    if kernel in LABEL_FREE and name in OF_LABELS:
        assert np.isfinite(kernel(features, labels, **options))
        return
    with pytest.raises(InputError, match=message):
        kernel(features, labels, **options)


@each_kernel
def test_num_classes_is_required_under_jit(kernel: Any) -> None:
    if kernel in LABEL_FREE:
        assert np.isfinite(jax.jit(kernel)(jnp.asarray(X)))
        return
    with pytest.raises(InputError, match="num_classes is required under jit"):
        jax.jit(kernel)(jnp.asarray(X), jnp.asarray(Y))


@each_kernel
def test_unknown_option(kernel: Any) -> None:
    with pytest.raises(TypeError, match="no_such"):
        kernel(X, Y, no_such=1)


@each_kernel
def test_options_are_keyword_only(kernel: Any) -> None:
    with pytest.raises(TypeError, match="positional"):
        kernel(X, Y, 3)


@each_kernel
def test_arguments_are_left_alone(kernel: Any) -> None:
    x, y, w = X.copy(), Y.copy(), np.arange(12.0)
    kernel(x, y, weights=w)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(w, np.arange(12.0))


@pytest.mark.parametrize("kernel", [sfda, face])
def test_float_labels_are_no_classes(kernel: Any) -> None:
    with pytest.raises(InputError, match=r"labels have dtype float.*integers"):
        kernel(X, Y.astype(float))


@pytest.mark.parametrize("fit", [logme, logme_fit])
def test_regression_targets(fit: Any) -> None:
    x, y = regression(12, 4)
    with pytest.raises(InputError, match=r"targets.*\(11,\).*12 rows"):
        fit(x, y[:-1])
    with pytest.raises(InputError, match="targets"):
        fit(x, y[:, None, None])
    with pytest.raises(InputError, match=r"targets contain NaN.*row 2"):
        fit(x, np.where(np.arange(12) == 2, np.nan, y))
    jax.tree.map(np.testing.assert_array_equal, fit(x, y.astype(object)), fit(x, y))


def test_bool_labels_are_two_classes() -> None:
    half = Y > 0
    assert float(logme(X, half)) == pytest.approx(float(logme(X, half.astype(int))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: logme(X, Y, variant="icml"), "variant 'icml'.*'paper'.*'released'"),
        (lambda: sfda(X, Y, variant="Paper"), "variant 'Paper'.*'paper'"),
        (lambda: sfda(X, Y, shrink_target="diagonal"), "'diagonal'.*'trace'.*'identity'"),
        (lambda: sfda(X, Y, shrinkage=1.5), "shrinkage.*1.5"),
        (lambda: sfda(X, Y, shrinkage=-0.1), "shrinkage.*-0.1"),
        (lambda: face(X, Y, covariance="tied"), "covariance 'tied'.*'spherical'"),
        (lambda: face(X, Y, temperature=0.0), "temperature"),
        (lambda: face(X, Y, variance_floor=-1.0), "variance_floor"),
        (lambda: get_metric("lgme"), "lgme': did you mean 'logme'"),
        (lambda: perturb.attract(X, Y, variant="signed"), "variant 'signed'"),
        (lambda: perturb.pca(X, num_components=0), "num_components"),
        (lambda: perturb.spread(X, Y[:-1]), "12 rows"),
        (lambda: perturb.spread(X, Y.astype(float)), "integers"),
    ],
)
def test_options_out_of_range(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def pool() -> dict[str, Any]:
    return {"a": X, "b": X[:, :3]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxte.rank(pool(), Y, metrics=("logme", "nope")), "nope.*jaxte metrics"),
        (lambda: jaxte.rank(pool(), Y, precision="float16"), "precision 'float16'.*'auto'"),
        (lambda: jaxte.rank(pool(), Y, perturb="shake"), "shake.*spread"),
        (lambda: jaxte.rank(pool(), Y, normalize="softmax"), "normalize.*'minmax'.*'zscore'"),
        (lambda: jaxte.rank({}, Y), "at least one model"),
        (lambda: jaxte.rank(pool(), Y, metrics=()), "metric"),
        (lambda: jaxte.rank(pool(), Y, options={"sfda": {"bad": 1}}), "bad"),
        (lambda: jaxte.rank(pool(), Y, metrics=("logme",), options={"face": {}}), "face"),
        (lambda: jaxte.rank(pool(), Y, memory_limit=0), "memory_limit"),
        (lambda: jaxte.rank(cast(Any, [X]), Y), "Mapping|mapping|dict"),
    ],
)
def test_rank_refuses_what_no_model_could_survive(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_input_error_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)
