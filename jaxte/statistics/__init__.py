"""What is known of the features and targets of one model, whichever way they come."""

from jaxte.statistics.measure import Balance, Moments, TargetMoments
from jaxte.statistics.statistics import FACTORISED, SHARED, Batch, Measured, Sample, Statistics

__all__ = [
    "FACTORISED",
    "SHARED",
    "Balance",
    "Batch",
    "Measured",
    "Moments",
    "Sample",
    "Statistics",
    "TargetMoments",
]
