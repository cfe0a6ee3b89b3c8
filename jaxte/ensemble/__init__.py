"""Which few models together: those that complement each other, from their features alone."""

from jaxte.ensemble.complementarity import complementary
from jaxte.ensemble.forward import greedy
from jaxte.ensemble.result import Ensemble

__all__ = ["Ensemble", "complementary", "greedy"]
