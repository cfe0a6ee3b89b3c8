"""Reduction of a symmetric matrix to tridiagonal form, once for all that ask for its spectrum.

It costs a third of an eigendecomposition. Eigenvalues come from it, those with one vector more,
the leading eigenvectors and, in `jaxte.statistics.tridiagonal`, solutions for many shifts.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.linalg import eigh_tridiagonal, solve_triangular
from jax.typing import ArrayLike

from jaxte.statistics.linalg import matmul, noise

__all__ = ["Reduction", "leading_axes", "reduce", "tridiagonal_values"]

_BLOCK = 64  # reflectors that are applied at once
_STEPS = 2  # of inverse iteration: the first leaves little, the second rounding error


class Reduction(NamedTuple):
    """A = Q T Q', T tridiagonal, with the first axis of Q along a vector of choice.

    Attributes:
        mirror: [r] unit normal of the reflection that brings the vector there; 0 for none.
        packed: [r, r] the other reflectors of Q, below the diagonal.
        scales: [r - 1] of these.
        diagonal: [r] of T.
        below: [r - 1] of T.
        along: the vector's coordinate on the first axis of Q; its others are 0.
    """

    mirror: Array
    packed: Array
    scales: Array
    diagonal: Array
    below: Array
    along: Array

    def turned(self, b: Array) -> Array:
        """Q'b for b [r, k]."""
        return self._reflect(self._mirrored(b), back=False)

    def back(self, z: Array) -> Array:
        """Q z for z [r, k]."""
        return self._mirrored(self._reflect(z, back=True))

    def _mirrored(self, b: Array) -> Array:
        return b - 2 * self.mirror[:, None] * matmul(self.mirror, b)[None]

    def _reflect(self, z: Array, *, back: bool) -> Array:
        """The reflectors in blocks, I - V S V' with S triangular; ``back``: in reverse."""
        d = len(self.diagonal)
        if d == 1:
            return z
        block = min(_BLOCK, d)
        count = -(-(d - 1) // block)
        packed = jnp.pad(self.packed, ((0, 0), (0, max(0, count * block - d))))
        scales = jnp.pad(self.scales, (0, count * block - (d - 1)))
        height = jnp.arange(d)[:, None]

        def apply(index: Array, z: Array) -> Array:
            start = (count - 1 - index if back else index) * block
            column = start + jnp.arange(block)[None]
            v = lax.dynamic_slice(packed, (0, start), (d, block))
            v = jnp.where(height == column + 1, 1, jnp.where(height > column + 1, v, 0))
            tau = lax.dynamic_slice(scales, (start,), (block,))
            mixed = jnp.tril(matmul(v.T, v), -1) * tau[None] + jnp.eye(block, dtype=z.dtype)
            along = matmul(v.T, z)
            unit = {"lower": True, "unit_diagonal": True}
            if back:
                along = solve_triangular(mixed, tau[:, None] * along, trans="T", **unit)
            else:
                along = tau[:, None] * solve_triangular(mixed, along, **unit)
            return z - matmul(v, along)

        return lax.fori_loop(0, count, apply, z)


def reduce(a: Array, vector: Array | None = None) -> Reduction:
    """Reduce a symmetric matrix [r, r]; ``vector`` [r] comes to lie along the first axis."""
    mirror, along = jnp.zeros_like(a[0]), jnp.zeros_like(a[0, 0])
    if vector is not None:
        length = jnp.sqrt(vector @ vector)
        there = length > 0
        unit = vector / jnp.where(there, length, 1)
        sign = jnp.where(unit[0] < 0, -1, 1).astype(a.dtype)
        mirror = unit.at[0].add(sign)
        mirror = jnp.where(there, mirror / jnp.sqrt(mirror @ mirror), 0)
        along = -sign * length
        twice = 2 * matmul(a, mirror)
        twice -= (mirror @ twice) * mirror
        a = a - mirror[:, None] * twice[None] - twice[:, None] * mirror[None]
    if len(a) == 1:
        return Reduction(mirror, a, jnp.zeros(0, a.dtype), a[0], jnp.zeros(0, a.dtype), along)
    packed, diagonal, below, scales = lax.linalg.tridiagonal(a)
    return Reduction(mirror, packed, scales, diagonal, below, along)


def tridiagonal_values(diagonal: Array, below: Array, number: int | None = None) -> Array:
    """The ``number`` largest eigenvalues of a tridiagonal matrix, or all, largest first."""
    size = len(diagonal)
    if number is None:
        return eigh_tridiagonal(diagonal, below, eigvals_only=True)[::-1]
    which = (size - number, size - 1)
    values = eigh_tridiagonal(diagonal, below, eigvals_only=True, select="i", select_range=which)
    return values[::-1]


def leading_axes(
    reduction: Reduction, a: Array, number: int, scale: ArrayLike = 1
) -> tuple[Array, Array, Array]:
    """Largest eigenvalues [k] of A, in order, their axes [d, k], and whether these are exact.

    ``reduction``: of A / ``scale``. By inverse iteration on T, then as Ritz values and vectors of
    A in the space of the result.
    """
    r = reduction
    values = tridiagonal_values(r.diagonal, r.below, number)
    eps = jnp.finfo(a.dtype).eps
    # beside the eigenvalues, or the solution may not be finite
    shifts = values + eps * jnp.abs(values).max() + jnp.finfo(a.dtype).tiny
    beside = jnp.append(r.below, jnp.zeros(1, a.dtype))

    def solve(one: tuple[Array, Array]) -> Array:
        shift, b = one
        lower = jnp.roll(beside, 1)
        return lax.linalg.tridiagonal_solve(lower, r.diagonal - shift, beside, b[:, None])[:, 0]

    z = jax.random.normal(jax.random.key(0), (len(a), number), a.dtype)
    for _ in range(_STEPS):
        z = lax.map(solve, (shifts, z.T)).T  # in turn: two batches of LAPACK's can wait for ever
        z = jnp.linalg.qr(z / jnp.abs(z).max(axis=0)[None])[0]
    axes = r.back(z)
    moved = matmul(a, axes)
    within = matmul(axes.T, moved)
    ritz, turn = jnp.linalg.eigh((within + within.T) / 2)
    ritz, turn = ritz[::-1], turn[:, ::-1]
    axes, moved = matmul(axes, turn), matmul(moved, turn)
    error = jnp.sqrt(jnp.sum((moved - axes * ritz[None]) ** 2, axis=0))
    error = jnp.maximum(error, jnp.abs(ritz - values * scale))
    return ritz, axes, jnp.all(error <= 10 * noise(jnp.abs(ritz[0]), len(a)))
