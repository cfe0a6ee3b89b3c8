"""The mixture against scikit-learn's, from the same start, and k-means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import blobs
from sklearn.cluster import kmeans_plusplus
from sklearn.mixture import GaussianMixture

from jaxte.statistics import mixture
from jaxte.statistics.kmeans import kmeans

KINDS = {"full": "full", "diagonal": "diag", "spherical": "spherical"}


@pytest.mark.parametrize("covariance", KINDS)
@pytest.mark.parametrize("columns", [4, 70])
def test_em_takes_the_steps_of_scikit_learn(covariance: str, columns: int, x64: None) -> None:
    """Also where columns beyond the fourth are padding, and rows count twice or not at all."""
    x, _ = blobs(120, 4, separation=3.0)
    counts = np.arange(120) % 3
    repeated = np.repeat(x, counts, axis=0)
    means, priors, variance = x[[1, 5, 8]], np.array([0.5, 0.2, 0.3]), 0.3
    precisions = {
        "full": np.tile(np.eye(4) / variance, (3, 1, 1)),
        "diagonal": np.full((3, 4), 1 / variance),
        "spherical": np.full(3, 1 / variance),
    }
    theirs = GaussianMixture(
        3,
        covariance_type=KINDS[covariance],
        weights_init=priors,
        means_init=means,
        precisions_init=precisions[covariance],
        random_state=0,
    ).fit(repeated)

    @jax.jit
    def fit(x: jax.Array, means: jax.Array) -> mixture.Mixture:
        width, floor = jnp.asarray(4.0), jnp.asarray(1e-6)
        scatter = jnp.diag(jnp.where(jnp.arange(columns) < 4, variance, 1))
        start = mixture.of_parameters(x, jnp.asarray(priors), means, scatter, width)
        return mixture.fit(x, jnp.asarray(counts, float), start, width, floor, covariance)

    padding = ((0, 0), (0, columns - 4))
    ours = fit(*(jnp.asarray(np.pad(part, padding)) for part in (x, means)))
    assert ours.n_iter == theirs.n_iter_ > 3
    assert ours.lower_bound == pytest.approx(theirs.lower_bound_, rel=1e-9)
    np.testing.assert_allclose(ours.responsibilities, theirs.predict_proba(x), atol=1e-8)
    np.testing.assert_allclose(ours.log_likelihood, theirs.score_samples(x), atol=1e-8)


def test_kmeans_is_at_rest_and_better_than_its_start(x64: None) -> None:
    x, _ = blobs(150, 3, separation=2.0)
    key = jax.random.key(0)
    jitted = jax.jit(kmeans, static_argnums=3)
    clusters = np.asarray(jitted(jnp.asarray(x), jnp.ones(150), jnp.asarray(6), 9, key))
    assert set(clusters) == set(range(6))
    centres = np.stack([x[clusters == k].mean(axis=0) for k in range(6)])
    distances = ((x[:, None] - centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), clusters)
    starts = [kmeans_plusplus(x, 6, random_state=seed)[0] for seed in range(5)]
    left = [((x[:, None] - start[None]) ** 2).sum(axis=2).min(axis=1).sum() for start in starts]
    assert distances.min(axis=1).sum() < np.mean(left)


def test_more_clusters_than_points_leave_some_empty() -> None:
    @jax.jit
    def fit(x: jax.Array) -> tuple[jax.Array, mixture.Mixture]:
        weights, width, floor = jnp.ones(12), jnp.asarray(3.0), jnp.asarray(1e-6)
        clusters = kmeans(x, weights, jnp.asarray(5), 5, jax.random.key(1))
        start = mixture.of_clusters(x, weights, clusters, 5, width, floor, "full")
        return clusters, mixture.fit(x, weights, start, width, floor)

    clusters, fitted = fit(jnp.asarray(np.repeat(np.eye(3), 4, axis=0), float))
    assert len(set(np.asarray(clusters).tolist())) == 3
    assert np.isfinite(fitted.lower_bound)
    np.testing.assert_allclose(fitted.responsibilities.max(axis=1), 1)
