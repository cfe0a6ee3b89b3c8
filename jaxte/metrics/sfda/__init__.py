"""SFDA, and the discriminant analysis inside it."""

from jaxte.metrics.sfda.metric import SFDA, sfda

__all__ = ["SFDA", "sfda"]
