"""Baselines that read no data, against plain NumPy."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Array

from jaxte import InputError, baselines


def tree() -> dict[str, Any]:
    """A dense layer, a convolution, attention, and what says nothing."""
    rng = np.random.default_rng(0)
    return {
        "params": {
            "Dense_0": {"kernel": rng.normal(size=(30, 20)), "bias": rng.normal(size=20)},
            "Conv_0": {"kernel": rng.normal(size=(3, 3, 4, 24))},
            "attention": {"query": {"kernel": rng.normal(size=(30, 4, 10))}},
            "depthwise": {"kernel": rng.normal(size=(3, 3, 1, 64))},
            "Embed_0": {"embedding": rng.normal(size=(50, 30))},
        }
    }


def test_sizes() -> None:
    assert baselines.num_parameters(tree()) == 600 + 20 + 864 + 1200 + 576 + 1500
    assert baselines.feature_width(np.ones((3, 8))) == 8
    with pytest.raises(InputError, match="is no array: give the parameters of the model alone"):
        baselines.num_parameters({"model": object()})
    with pytest.raises(InputError, match=r"\[n, d\]"):
        baselines.feature_width(np.ones(3))


def test_source_accuracy_names_what_there_is() -> None:
    assert baselines.source_accuracy("mobilenet_v2", "v2") == 72.154
    with pytest.raises(InputError, match="no model 'googlenet': choose from resnet50"):
        baselines.source_accuracy("googlenet", "v2")
    with pytest.raises(InputError, match="no weights 'v3': choose from v1, v2"):
        baselines.source_accuracy("resnet50", "v3")


def exponent(values: Array) -> float:
    """Every tail of a short spectrum is tried."""
    values = np.sort(values)
    fits = []
    for start in values[int(0.1 * len(values)) : int(0.9 * len(values))]:
        tail = values[values >= start]
        if len(tail) >= 5:
            alpha = 1 + len(tail) / np.sum(np.log(tail / start))
            law = 1 - (tail / start) ** (1 - alpha)
            fits.append((np.abs(np.arange(1, len(tail) + 1) / len(tail) - law).max(), alpha))
    return float(min(fits)[1])


def test_weight_spectrum() -> None:
    layers = tree()["params"]
    matrices = [
        layers["Dense_0"]["kernel"],
        layers["Conv_0"]["kernel"].reshape(36, 24),
        layers["attention"]["query"]["kernel"].reshape(30, 40),
    ]
    singular = [np.linalg.svd(matrix, compute_uv=False) for matrix in matrices]
    alphas = [exponent(s**2) for s in singular]
    shares = [s / s.sum() for s in singular]
    edges = [
        np.mean(s**2) * (1 + np.sqrt(min(m.shape) / max(m.shape))) ** 2 / s[0] ** 2
        for s, m in zip(singular, matrices, strict=True)
    ]
    expected = {
        "w_alpha": -np.mean(alphas),
        "w_alpha_weighted": -np.mean(
            [a * np.log10(s[0] ** 2) for a, s in zip(alphas, singular, strict=True)]
        ),
        "w_mp_softrank": -np.mean(np.minimum(edges, 1)),
        "w_log_spectral_norm": np.mean([np.log10(s[0]) for s in singular]),
        "w_log_frobenius": np.mean([np.log10(np.linalg.norm(m)) for m in matrices]),
        "w_stable_rank": np.mean([np.sum(s**2) / s[0] ** 2 for s in singular]),
        "w_effective_rank": np.mean([np.exp(-np.sum(p * np.log(p))) for p in shares]),
        "num_layers": 3,
    }
    result = baselines.weight_spectrum(tree())
    assert result._asdict() == pytest.approx(expected, rel=1e-9)
    jax_arrays = {"net/linear": {"w": jnp.asarray(matrices[0])}}
    assert baselines.weight_spectrum(jax_arrays).num_layers == 1


def test_weights_of_torch_have_their_outputs_first() -> None:
    """The same layer by both conventions."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 12, 40))
    state = {"features.0.weight": kernel.transpose(3, 2, 0, 1), "features.1.weight": np.ones(40)}
    ours, theirs = (baselines.weight_spectrum(part) for part in ({"kernel": kernel}, state))
    assert ours == pytest.approx(theirs, rel=1e-9)
    torch = pytest.importorskip("torch")
    named = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in state.items()}
    assert baselines.weight_spectrum(named) == theirs
    assert baselines.num_parameters(named) == kernel.size + 40


def test_what_has_no_weights_or_too_few() -> None:
    with pytest.raises(InputError, match="no weight matrix"):
        baselines.weight_spectrum({"bias": np.ones(30)})
    flat = baselines.weight_spectrum({"kernel": np.ones((20, 20))})
    assert np.isnan(flat.w_alpha)
