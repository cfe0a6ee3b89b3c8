"""SFDA, and the discriminant analysis inside it."""

from jaxte.metrics.sfda.metric import sfda

__all__ = ["sfda"]
