"""Transferability metrics as pure functions: arrays in, one scalar out, larger is better.

All share one signature, ``metric(features, labels_or_targets, *, num_classes=None, weights=None,
num_features=None, ...)``, and compose with jit, vmap and grad. Where moments suffice,
``metric_from_moments(state)`` scores samples that were never in memory at once.
"""

from jaxte.metrics.face import FaceTerms, face, face_from_moments, face_terms
from jaxte.metrics.logme import LogMEFit, logme, logme_fit, logme_from_moments
from jaxte.metrics.metric import Metric, Pass
from jaxte.metrics.registry import REGISTRY, get_metric, register
from jaxte.metrics.sfda import sfda

__all__ = [
    "REGISTRY",
    "FaceTerms",
    "LogMEFit",
    "Metric",
    "Pass",
    "face",
    "face_from_moments",
    "face_terms",
    "get_metric",
    "logme",
    "logme_fit",
    "logme_from_moments",
    "register",
    "sfda",
]
