"""Published formulas in torch, in float64, on the card that torch takes: what others would run.

Written from the papers and from what their released code is known to compute, one model at a time
and as plainly as there; nobody's own code, of which most runs on a CPU only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.clones import MissingError
from benchmarks.settings import say

_STEPS, _CLOSE = 11, 1e-3  # of the fixed point, as released
_FLOOR, _OFFSET = 1e-10, 1e-5
_LOG_TWO_PI = math.log(2 * math.pi)


class TorchRival(NamedTuple):
    """A formula.

    Attributes:
        metric: jaxte's name of what it computes.
        score: (torch, features [n, d], labels [n], C) -> number.
        options: of jaxte's call that gives the same.
        close: how near the two must come, of the score.
    """

    metric: str
    score: Callable[[Any, Any, Any, int], float]
    options: Mapping[str, Any] = {}
    close: float = 1e-6


def torch_of() -> Any:
    """The torch module.

    Raises:
        MissingError: if it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingError("torch is not installed") from None
    return torch


def logme(torch: Any, x: Any, y: Any, classes: int) -> float:
    """MacKay's fixed point for each class in turn, after one singular value decomposition."""
    n, d = x.shape
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    squares = s**2
    evidences = []
    for c in range(classes):
        target = (y == c).to(x.dtype)
        along = (u.T @ target) ** 2
        rest = target @ target - along.sum()
        alpha = beta = torch.ones((), dtype=x.dtype, device=x.device)
        ratio = alpha / beta
        for _ in range(_STEPS):
            gamma = (squares / (squares + ratio)).sum()
            norm = (squares * along / (ratio + squares) ** 2).sum()
            residual = (along / (1 + squares / ratio) ** 2).sum() + rest
            alpha, beta = gamma / (norm + _OFFSET), (n - gamma) / (residual + _OFFSET)
            before, ratio = ratio, alpha / beta
            if abs(ratio - before) / before <= _CLOSE:
                break
        norm = (squares * along / (ratio + squares) ** 2).sum()
        residual = (along / (1 + squares / ratio) ** 2).sum() + rest
        evidence = d / 2 * torch.log(alpha) + n / 2 * torch.log(beta)
        evidence -= 0.5 * torch.log(alpha + beta * squares).sum()
        evidence -= beta / 2 * residual + alpha / 2 * norm + n / 2 * _LOG_TWO_PI
        evidences.append(evidence / n)
    return float(torch.stack(evidences).mean())


def _means(torch: Any, x: Any, y: Any, classes: int) -> tuple[Any, Any]:
    counts = torch.bincount(y, minlength=classes).to(x.dtype)
    sums = torch.zeros(classes, x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, y, x)
    return sums / counts[:, None], counts


def _fisher(torch: Any, x: Any, y: Any, classes: int, shrinkage: Any) -> tuple[Any, Any, Any]:
    """Probabilities [n, C], class means, and the shrinkage, computed if it is None."""
    n, d = x.shape
    means, counts = _means(torch, x, y, classes)
    residuals = x - means[y]
    within = residuals.T @ residuals / n
    if shrinkage is None:
        v = within.sum(dim=1)
        for _ in range(3):
            u = within @ v
            u = u / u.norm()
            v = within @ u
            v = v / v.norm()
        shrinkage = torch.clamp(torch.exp(-5 * (v @ within @ u)), min=_FLOOR)
    eye = torch.eye(d, dtype=x.dtype, device=x.device)
    shrunk = (1 - shrinkage) * within + shrinkage * torch.trace(within) / d * eye
    directions = torch.linalg.solve(shrunk, means.T)
    logits = x @ directions - 0.5 * (means.T * directions).sum(dim=0) + torch.log(counts / n)
    return torch.softmax(logits, dim=1), means, shrinkage


def sfda(torch: Any, x: Any, y: Any, classes: int) -> float:
    """Two regularised discriminants, the second of rows that the first one's doubts have mixed."""
    rows = torch.arange(len(x), device=x.device)
    p, means, shrinkage = _fisher(torch, x, y, classes, None)
    own = torch.softmax(p, dim=1)[rows, y][:, None]
    others = (means.sum(dim=0) - means) / (classes - 1)
    mixed = own * x + (1 - own) * others[y]
    return float(_fisher(torch, mixed, y, classes, shrinkage)[0][rows, y].mean())


def hscore(torch: Any, x: Any, y: Any, classes: int) -> float:
    """Trace of the pseudo-inverse of the covariance times that of the class means."""
    means, counts = _means(torch, x, y, classes)
    centred = x - x.mean(dim=0)
    covariance = centred.T @ centred / len(x)
    between = means - x.mean(dim=0)
    of_means = between.T @ (between * (counts / len(x))[:, None])
    inverse = torch.linalg.pinv(covariance, hermitian=True)
    return float(torch.trace(inverse @ of_means))


def gbc(torch: Any, x: Any, y: Any, classes: int) -> float:
    """Bhattacharyya coefficients of spherical Gaussians, all pairs of classes at once."""
    means, counts = _means(torch, x, y, classes)
    d = x.shape[1]
    squares = ((x - means[y]) ** 2).sum(dim=1)
    zeros = torch.zeros(classes, dtype=x.dtype, device=x.device)
    variance = zeros.index_add_(0, y, squares) / counts / d
    variance = torch.clamp(variance, min=1e-4)
    pooled = 0.5 * (variance[:, None] + variance[None])
    distance = torch.cdist(means, means) ** 2 / (8 * pooled)
    distance = distance + d / 2 * torch.log(pooled / torch.sqrt(variance[:, None] * variance[None]))
    overlap = torch.exp(-distance)
    return float(-(overlap.sum() - overlap.diagonal().sum()))


RIVALS = (
    TorchRival("logme", logme, {"variant": "released"}),
    TorchRival("sfda", sfda),
    TorchRival("hscore", hscore),
    TorchRival("gbc", gbc),
)


def ready(rival: TorchRival, features: Any, labels: Any, classes: int) -> Callable[[], float]:
    """The call on features that lie on the card, where there is one."""
    torch = torch_of()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.from_numpy(features).to(device, torch.float64)
    y = torch.from_numpy(labels).to(device, torch.int64)
    say(f"torch {torch.__version__} on {device}: {rival.metric}")
    return lambda: rival.score(torch, x, y, classes)
