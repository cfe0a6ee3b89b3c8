"""LogME, and the evidence that it maximises."""

from jaxte.metrics.logme.metric import LogMEFit, logme, logme_fit, logme_from_moments

__all__ = ["LogMEFit", "logme", "logme_fit", "logme_from_moments"]
