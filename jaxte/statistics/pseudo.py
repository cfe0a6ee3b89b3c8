"""Pseudo-inverses, by a factor or products where these lose no digit, else by eigenvectors."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

from jaxte.statistics.linalg import factor_of, matmul, noise, trace

_SMALL = 192  # size below which eigenvectors are as quick as a Cholesky factor
_CLEAR = 1e-3  # share of the smallest eigenvalue that the cut for rounding error may be
_ROUNDINGS = 16.0  # of float32 that are summed, as `noise` counts
_SQUARED = 1e-6  # least share of an eigenvalue of X X' that leaves ten digits


class Solved(NamedTuple):
    """A^+ b [m, k], F [m, k] with F'F = b' A^+ b, and the rank of A."""

    solution: Array
    half: Array
    rank: Array


def pseudo_solve(a: Array, b: Array, terms: Array, null: Array | None = None) -> Solved:
    """A^+ b for a positive semidefinite A [m, m] of m-dimensional b [m, k].

    Eigenvalues that are rounding error of so many ``terms`` count as 0. Cholesky, where the factor
    shows that there are none such, and else eigenvectors. With the unit vector ``null``, of which
    A null = 0 is known, F'F is b'b of the part of b that A reaches; zero rows of A, as of absent
    samples, may be as many as there are. No derivatives.
    """
    a, b, terms, null = lax.stop_gradient((a, b, terms, null))
    # Rounding leaves less than an eps of the largest eigenvalue, measured up to a size of 2048. The
    # sure bound, which float64 can afford, is a thousandth of it in float32, where signal still is.
    terms = terms**2 if a.dtype == jnp.float64 else jnp.full_like(terms, _ROUNDINGS)

    def by_eigenvectors(a: Array, b: Array, terms: Array) -> Solved:
        values, axes = jnp.linalg.eigh(a, symmetrize_input=False)
        kept = values > noise(values[-1], terms)
        along = jnp.where(kept[:, None], matmul(axes.T, b), 0)
        root = jnp.sqrt(jnp.where(kept, values, 1))[:, None]
        half = along / root
        return Solved(matmul(axes, half / root), along if null is not None else half, kept.sum())

    if len(a) < _SMALL:
        return by_eigenvectors(a, b, terms)
    there = jnp.diagonal(a) > 0
    size = trace(a) / jnp.maximum(there.sum(), 1)
    full = a + jnp.diag(jnp.where(there, 0, size))
    rank, own = there.sum(), jnp.where(there[:, None], b, 0)
    if null is not None:
        full = full + size * null[:, None] * null[None]
        rank, own = rank - 1, own - null[:, None] * matmul(null, own)[None]
    factor = factor_of(full)
    largest = jnp.max(jnp.sum(jnp.abs(full), axis=1))
    known = noise(largest, terms) * factor.inverse_norm() < _CLEAR
    half = factor.half(own)
    solved = Solved(factor.back(half), own if null is not None else half, rank)

    @sequential_vmap  # or both sides of the condition would be computed
    def choose(known: Array, solved: Solved, a: Array, b: Array, terms: Array) -> Solved:
        return lax.cond(known, lambda: solved, lambda: by_eigenvectors(a, b, terms))

    return choose(known, solved, a, b, terms)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def pseudo_inverse(x: Array, cut: float) -> Array:
    """Pseudo-inverse [d, m] of rows [m, d]; singular values below a share ``cut`` are 0.

    An accelerator takes a long time for a singular value decomposition: there float64 takes the
    eigenvectors of X X' where their squared condition costs no digit that matters. The derivative
    is that at constant rank.
    """

    def by_values(x: Array) -> Array:
        return jnp.linalg.pinv(x, rtol=cut)

    def by_products(x: Array) -> Array:
        values, axes = jnp.linalg.eigh(matmul(x, x.T))
        kept = values > noise(values[-1], len(x))
        inverse = matmul(axes / jnp.where(kept, values, jnp.inf)[None], matmul(axes.T, x)).T
        known = jnp.all(~kept | (values > _SQUARED * values[-1]))

        @sequential_vmap  # or both sides of the condition would be computed
        def choose(known: Array, inverse: Array, x: Array) -> Array:
            return lax.cond(known, lambda: inverse, lambda: by_values(x))

        return choose(known, inverse, x)

    if x.dtype == jnp.float32:
        return by_values(x)
    return lax.platform_dependent(x, cpu=by_values, default=by_products)


@pseudo_inverse.defjvp
def _pseudo_inverse_jvp(
    cut: float, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    p = pseudo_inverse(x, cut)
    across, along = matmul(p, matmul(p.T, dx.T)), matmul(dx.T, matmul(p.T, p))
    moved = across - matmul(across, matmul(x, p)) + along - matmul(p, matmul(x, along))
    return p, moved - matmul(p, matmul(dx, p))
