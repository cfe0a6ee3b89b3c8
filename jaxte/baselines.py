"""What a model says without any data: size, width, source accuracy, spectra of its weights.

A metric that reads features should beat these; each gives all data sets one ranking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Number
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxte.errors import InputError
from jaxte.intake.arrays import of_torch
from jaxte.intake.checks import short

__all__ = [
    "SOURCE_TOP1",
    "WeightSpectrum",
    "feature_width",
    "num_parameters",
    "source_accuracy",
    "weight_spectrum",
]

_V1 = {
    "googlenet": 69.778, "mobilenet_v2": 71.878, "mnasnet1_0": 73.456, "densenet121": 74.434,
    "densenet161": 77.138, "densenet169": 75.600, "densenet201": 76.896, "efficientnet_b0": 77.692,
    "resnet18": 69.758, "resnet34": 73.314, "resnet50": 76.130, "resnet101": 77.374,
    "resnet152": 78.312, "inception_v3": 77.294, "vit_t_16": 75.45, "vit_s_16": 81.39,
    "vit_b_16": 84.53, "pvt_t": 70.5, "pvt_s": 78.7, "pvt_m": 81.2, "pvtv2_b2": 82.0,
    "swin_t": 81.18,
}  # fmt: skip
_V2 = {"resnet50": 80.858, "resnet101": 81.886, "resnet152": 82.284, "mobilenet_v2": 72.154}
# Top-1 accuracy on ImageNet, in percent, that was published with each checkpoint: torchvision's
# two generations of weights, and those of PVT, Swin and ViT by their authors; as TE-Bench has them.
SOURCE_TOP1: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {"v1": MappingProxyType(_V1), "v2": MappingProxyType(_V2)}
)
_SMALLEST = 10  # rows or columns of a weight matrix that says something
_OUT_LAST = ("kernel", "w")  # of Flax and Haiku; others name a weight [out, ...] "weight"
_SPLIT_HEADS = ("query", "key", "value")  # kernels [in, heads, width]
_CANDIDATES, _VALUES, _TAIL = 60, 8, 5  # of the fit of a power law


class WeightSpectrum(NamedTuple):
    """Means over the layers of a model, each signed so that larger is held to be better.

    Attributes:
        w_alpha: minus the exponent of a power law through the tail of the eigenvalues of W W'.
        w_alpha_weighted: the same, each layer times log10 of its largest eigenvalue.
        w_mp_softrank: minus the edge of the Marchenko-Pastur bulk per largest eigenvalue, in
            [0, 1].
        w_log_spectral_norm: log10 of the largest singular value.
        w_log_frobenius: log10 of the Frobenius norm.
        w_stable_rank: sum of the eigenvalues per largest one.
        w_effective_rank: exp of the entropy of the singular values.
        num_layers: how many weight matrices count.
    """

    w_alpha: float
    w_alpha_weighted: float
    w_mp_softrank: float
    w_log_spectral_norm: float
    w_log_frobenius: float
    w_stable_rank: float
    w_effective_rank: float
    num_layers: int


_FIELDS = WeightSpectrum._fields[:-1]


def num_parameters(parameters: Any) -> int:
    r"""Number of entries of all arrays of a pytree: the size of a model.

    .. math:: \sum_l \prod_i d_{l,i}

    Args:
        parameters: a pytree of arrays, as Flax or Haiku have it, or a mapping of names to arrays.

    Returns:
        How many numbers there are.

    Raises:
        InputError: for what holds something else than arrays, as a module.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> jaxte.baselines.num_parameters({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)})
        16
    """
    leaves = jax.tree.leaves(parameters)
    if odd := [leaf for leaf in leaves if not (hasattr(leaf, "shape") or isinstance(leaf, Number))]:
        raise InputError(
            f"{short(odd[0])} is no array: give the parameters of the model alone, as "
            "nnx.state(model) or dict(model.named_parameters())"
        )
    return sum(math.prod(np.shape(leaf)) for leaf in leaves)


def feature_width(features: Any) -> int:
    """Number of features d of a model.

    Args:
        features: [n, d].

    Returns:
        d.

    Raises:
        InputError: for what is no matrix.

    Example:
        >>> import jax.numpy as jnp, jaxte
        >>> jaxte.baselines.feature_width(jnp.ones((5, 7)))
        7
    """
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) != 2:
        raise InputError(f"features have shape {shape}: give a matrix [n, d]")
    return int(shape[1])


def source_accuracy(model: str, weights: str = "v1") -> float:
    """Published top-1 accuracy of a checkpoint on ImageNet, in percent.

    Args:
        model: its name, one of ``SOURCE_TOP1[weights]``.
        weights: generation of the checkpoint: "v1" or "v2".

    Returns:
        In [0, 100].

    Raises:
        InputError: for another model or generation, with the names that there are.

    References: torchvision and the models' authors, as collected by TE-Bench (row ``inb``).

    Example:
        >>> import jaxte
        >>> jaxte.baselines.source_accuracy("resnet50"), jaxte.baselines.source_accuracy(
        ...     "resnet50", "v2"
        ... )
        (76.13, 80.858)
    """
    for name, value, known in (
        ("weights", weights, SOURCE_TOP1),
        ("model", model, SOURCE_TOP1.get(weights, {})),
    ):
        if value not in known:
            raise InputError(f"no {name} {short(value)}: choose from {', '.join(known)}")
    return SOURCE_TOP1[weights][model]


def weight_spectrum(parameters: Any) -> WeightSpectrum:
    r"""How heavy-tailed the spectra of a model's weight matrices are; needs no data.

    .. math:: -\frac1L \sum_l \alpha_l \log_{10} \lambda_{l,1}, \qquad
        \alpha = 1 + \frac{m}{\sum_{j \le m} \ln(\lambda_j / \lambda_m)}

    for ``w_alpha_weighted``, with the squared singular values of each dense and convolutional
    weight as a matrix [out, rest] of at least 10 rows and columns, as they are, without any
    normalisation. m, the length of the tail, is the one of which the power law is nearest to the
    tail (Kolmogorov-Smirnov, of at most 60 between the 10 % and the 90 % position).

    Args:
        parameters: a pytree of arrays or a mapping of names to arrays. Arrays of two dimensions or
            more named "kernel" or "w" count as [..., out], those named "weight" as [out, ...]
            (also an embedding of that name: leave it out).

    Returns:
        `WeightSpectrum`; NaN where no layer has 8 positive eigenvalues for a power law.

    Raises:
        InputError: where no weight matrix is found.

    References: Martin, Peng, Mahoney, Nature Communications 2021, arXiv 2002.06716; constants of
        TE-Bench, which are not those of WeightWatcher.

    Example:
        >>> import jax, jaxte
        >>> kernel = jax.random.normal(jax.random.key(0), (64, 32))
        >>> spectrum = jaxte.baselines.weight_spectrum({"dense": {"kernel": kernel}})
        >>> spectrum.num_layers, spectrum.w_stable_rank < spectrum.w_effective_rank < 32
        (1, True)
    """
    layers = [_of_layer(matrix) for matrix in weight_matrices(parameters)]
    if not layers:
        raise InputError(
            "no weight matrix found: give a pytree whose arrays are named 'kernel', 'w' or "
            f"'weight', of at least {_SMALLEST} rows and columns"
        )
    columns = np.array(layers).T
    known = [column[np.isfinite(column)] for column in columns]
    means = [float(column.mean()) if len(column) else math.nan for column in known]
    return WeightSpectrum(**dict(zip(_FIELDS, means, strict=True)), num_layers=len(layers))


def weight_matrices(parameters: Any) -> Iterator[np.ndarray]:
    """Weights of the layers as matrices [out, rest] or their transposes."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(parameters)[0]:
        names = [part for key in path for part in _name(key).split(".")]
        last = [name for name in names if name in (*_OUT_LAST, "weight")][-1:]
        if not last or np.ndim(leaf) < 2:
            continue
        weight = np.asarray(of_torch(leaf) if hasattr(leaf, "detach") else leaf, np.float64)
        if last[0] == "weight" or any(name in _SPLIT_HEADS for name in names):
            weight = weight.reshape(len(weight), -1)
        else:
            weight = weight.reshape(-1, weight.shape[-1])
        if not np.isfinite(weight).all():
            raise InputError(f"weights of {'/'.join(names)} contain NaN or infinity")
        if min(weight.shape) >= _SMALLEST:
            yield weight


def _name(key: Any) -> str:
    """What a key of a pytree is called, without brackets and quotes."""
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def _of_layer(weight: np.ndarray) -> tuple[float, ...]:
    """The fields of `WeightSpectrum`, of one layer."""
    singular = np.linalg.svd(weight, compute_uv=False)
    rounding = np.finfo(weight.dtype).eps * max(weight.shape) * singular[0]
    singular = singular[singular > rounding]
    if len(singular) < 2:
        return (math.nan,) * len(_FIELDS)
    values, share = singular**2, singular / singular.sum()
    largest, total = values.max(), values.sum()
    alpha = _exponent(values)
    ratio = min(weight.shape) / max(weight.shape)
    edge = values.mean() * (1 + math.sqrt(ratio)) ** 2
    return (
        -alpha,
        -alpha * math.log10(largest),
        -min(edge / largest, 1.0),
        math.log10(largest) / 2,
        math.log10(total) / 2,
        total / largest,
        math.exp(-np.sum(share * np.log(share))),
    )


def _exponent(values: np.ndarray) -> float:
    """Of the power law with the tail that is nearest to one."""
    values = np.sort(values)
    if len(values) < _VALUES:
        return math.nan
    first = int(0.1 * len(values))
    starts = np.unique(values[first : max(first + 1, int(0.9 * len(values)))])
    if len(starts) > _CANDIDATES:
        starts = starts[np.linspace(0, len(starts) - 1, _CANDIDATES).astype(int)]
    best, exponent = math.inf, math.nan
    for start in starts:
        tail = values[values >= start] / start
        slope = np.log(tail).sum()
        if len(tail) < _TAIL or slope <= 0:
            continue
        alpha = 1 + len(tail) / slope
        seen = np.arange(1, len(tail) + 1) / len(tail)
        distance = float(np.abs(seen - (1 - tail ** (1 - alpha))).max())
        if distance < best:
            best, exponent = distance, float(alpha)
    return exponent
