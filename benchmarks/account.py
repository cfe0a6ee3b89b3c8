"""What a metric cannot do without: arithmetic, bytes, and from them the least time on a card.

For n rows, d <= n columns and C classes, in float64 from features of ``entry`` bytes. Counted are
matrix products and factorisations (a multiplication and an addition are two operations), and every
pass over the rows that the score by its definition takes: nothing is assumed to stay in a cache,
what is d x d or smaller is. So a metric may take longer, and never less.

    python -m benchmarks account --n 10000 --d 2048 --classes 100
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import report
from benchmarks.settings import say

# Operations over d^3 of what solves d x d systems: as LAPACK counts them.
CHOLESKY, TRIDIAGONAL, EIGENVECTORS = 1 / 3, 4 / 3, 9.0
GOAL = ("logme", "sfda", "face", "hscore", "gbc")
# NLEEP: principal components, components per class and EM steps, of features as networks give.
_COMPONENTS, _PER_CLASS, _STEPS = 64, 5, 30
# By its maker: NVIDIA H100 SXM, float64 on tensor cores, HBM3, and PCIe 5.0 x16 one way.
H100 = (67e12, 3.35e12, 64e9)


class Work(NamedTuple):
    """Least work on one model.

    Attributes:
        products: operations of matrix products and of passes over the entries.
        factors: operations of factorisations, which XLA leaves to a library and does not count.
        bytes: read from and written to the memory of the device.
    """

    products: float
    factors: float = 0.0
    bytes: float = 0.0

    def plus(self, products: float = 0.0, factors: float = 0.0, bytes: float = 0.0) -> Work:
        """With more on top."""
        return Work(self.products + products, self.factors + factors, self.bytes + bytes)

    @property
    def operations(self) -> float:
        """All arithmetic."""
        return self.products + self.factors

    def floor(self, rate: float, bandwidth: float) -> float:
        """Seconds at so many operations and bytes a second: the larger of the two."""
        return max(self.operations / rate, self.bytes / bandwidth)


def _moments(n: float, d: float, _: float, entry: int) -> Work:
    """Sums by class, and squares of what is left of the rows: 4 operations an entry, one pass."""
    return Work(4 * n * d, 0, entry * n * d)


def _scatter(n: float, d: float, c: float, entry: int) -> Work:
    """And X'X; its half would do, but no library's product makes half."""
    return _moments(n, d, c, entry).plus(2 * n * d * d)


def _logme(n: float, d: float, c: float, entry: int) -> Work:
    """X'X, its tridiagonal form, C targets in that, and the evidence of each at 256 penalties.

    The least arithmetic, of which much is products with vectors. On accelerators jaxte does fifteen
    times as much in its place: 48 Cholesky factors, which are products of matrices.
    """
    return _scatter(n, d, c, entry).plus(2 * d * d * c + 2 * 256 * d * c, TRIDIAGONAL * d**3)


def _sfda(n: float, d: float, c: float, entry: int) -> Work:
    """Twice: X'X, a Cholesky factor, C solutions, and the logits of all rows in a pass of its own.

    The second time of mixed rows, which are made in the first such pass: 10 operations an entry.
    """
    stage = 2 * n * d * d + 2 * d * d * c + 2 * n * d * c
    passes = 2 * _moments(n, d, c, entry).products + 10 * n * d
    return Work(2 * stage + passes, 2 * CHOLESKY * d**3, 3 * entry * n * d)


def _face(n: float, d: float, c: float, entry: int) -> Work:
    """Products of the rows with C directions, distances of all means, a C x C spectrum."""
    return _moments(n, d, c, entry).plus(
        2 * n * d * c + 4 * c * c * d, EIGENVECTORS * c**3, entry * n * d
    )


def _hscore(n: float, d: float, c: float, entry: int) -> Work:
    """X'X, its Cholesky factor, C solutions and the trace of their products."""
    return _scatter(n, d, c, entry).plus(2 * d * d * c + 2 * c * c * d, CHOLESKY * d**3)


def _gbc(n: float, d: float, c: float, entry: int) -> Work:
    """Squares by class, and distances of all means."""
    return _moments(n, d, c, entry).plus(2 * c * c * d)


def _spectrum(n: float, d: float, c: float, entry: int) -> Work:
    """X'X and its eigenvalues alone."""
    return _scatter(n, d, c, entry).plus(factors=TRIDIAGONAL * d**3)


def _lda(n: float, d: float, c: float, entry: int) -> Work:
    """One stage of SFDA."""
    return _scatter(n, d, c, entry).plus(
        2 * d * d * c + 2 * n * d * c, CHOLESKY * d**3, entry * n * d
    )


def _nearest_means(n: float, d: float, c: float, entry: int) -> Work:
    """Products of the rows with C means."""
    return _moments(n, d, c, entry).plus(2 * n * d * c, 0, entry * n * d)


def _ridge_probe(n: float, d: float, c: float, entry: int) -> Work:
    """As LogME, then all rows times the inverse factor, and their predictions."""
    return _logme(n, d, c, entry).plus(
        2 * n * d * d + 2 * n * d * c, (CHOLESKY + 1) * d**3, entry * n * d
    )


def _knn(n: float, d: float, c: float, entry: int) -> Work:
    """Products of all pairs of rows, of which a few operations make distances."""
    return _moments(n, d, c, entry).plus(2 * n * n * d + 8 * n * n, 0, entry * n * d)


def _parc(n: float, d: float, c: float, entry: int) -> Work:
    """32 principal components, products of all pairs, and both sides' ranks in a sort each."""
    return _spectrum(n, d, c, entry).plus(2 * n * d * 32 + 2 * n * n * 32 + 20 * n * n)


def _nleep(n: float, d: float, c: float, entry: int) -> Work:
    """Principal components, and EM of 5 C components: densities and covariances in each step."""
    q, v = min(_COMPONENTS, d), _PER_CLASS * c
    step = 4 * n * v * q * q
    return _logme(n, d, 0, entry).plus(2 * n * d * q + _STEPS * step, _STEPS * CHOLESKY * v * q**3)


ACCOUNTS: Mapping[str, Callable[[float, float, float, int], Work]] = {
    **{"logme": _logme, "sfda": _sfda, "face": _face, "hscore": _hscore, "gbc": _gbc},
    **{"cdnv": _gbc, "tmi_variance": _moments},
    **dict.fromkeys(("rankme", "effective_rank", "stable_rank", "alpha_req"), _spectrum),
    **dict.fromkeys(("vci", "hscore_shrinkage"), _hscore),
    **{"nc1": _face, "lfc": _scatter, "lda": _lda, "nearest_class_mean": _nearest_means},
    **{"ridge_probe": _ridge_probe, "knn": _knn, "parc": _parc, "nleep": _nleep},
}


def of(metric: str, n: int, d: int, classes: int, entry: int = 4) -> Work:
    """Least work of a metric on n rows of d columns, of which each entry comes in so many bytes."""
    return ACCOUNTS[metric](n, min(d, n), classes, entry)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    rate, bandwidth, link = H100
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--models", type=int, default=33)
    parser.add_argument("--rate", type=float, default=rate, help="operations a second (an H100's)")
    parser.add_argument("--bandwidth", type=float, default=bandwidth, help="bytes a second")
    parser.add_argument("--link", type=float, default=link, help="bytes a second from the host")
    parser.add_argument("--out", metavar="FILE", help="of the table (on standard error)")


def run(arguments: argparse.Namespace) -> int:
    """Write the account of every metric, and of the pool that the goal speaks of."""
    text = "\n".join(
        lines(
            arguments.n,
            arguments.d,
            arguments.classes,
            arguments.models,
            arguments.rate,
            arguments.bandwidth,
            arguments.link,
        )
    )
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")
    else:
        say(text)
    return 0


def lines(
    n: int, d: int, classes: int, models: int, rate: float, bandwidth: float, link: float
) -> Sequence[str]:
    """The account as Markdown."""
    rows = []
    for metric in ACCOUNTS:
        work = of(metric, n, d, classes)
        rows.append(
            [
                metric,
                f"{work.products / 1e9:.1f}",
                f"{work.factors / 1e9:.1f}",
                f"{work.bytes / 1e6:.0f}",
                report.seconds(work.floor(rate, bandwidth)),
                "arithmetic" if work.operations / rate > work.bytes / bandwidth else "memory",
            ]
        )
    pool = sum(of(metric, n, d, classes).floor(rate, bandwidth) for metric in GOAL) * models
    sent = models * 4 * n * d / link
    return [
        f"# Account: n = {n}, d = {d}, C = {classes}, float64 from float32 features",
        "",
        f"At {rate / 1e12:.3g} TFLOP/s, {bandwidth / 1e12:.3g} TB/s, and {link / 1e9:.3g} GB/s "
        "from the host. The arithmetic of each line stands in `benchmarks/account.py`.",
        "",
        *report.table(
            ("metric", "GFLOP of products", "of factors", "MB", "floor", "bound by"), rows
        ),
        f"{models} models by {', '.join(GOAL)}: {report.seconds(pool)} one metric after the other, "
        f"each with products of its own; features from the host: {report.seconds(sent)}.",
    ]
