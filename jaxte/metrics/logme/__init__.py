"""LogME, and the evidence that it maximises."""

from jaxte.metrics.logme.metric import LOGME, LogMEFit, logme, logme_fit, logme_from_moments

__all__ = ["LOGME", "LogMEFit", "logme", "logme_fit", "logme_from_moments"]
