"""What is known of the features and targets of one model, whichever way they come."""

from jaxte.statistics.measure import Balance, Moments, TargetMoments
from jaxte.statistics.statistics import SHARED, Batch, Measured, Sample, Statistics

__all__ = [
    "SHARED",
    "Balance",
    "Batch",
    "Measured",
    "Moments",
    "Sample",
    "Statistics",
    "TargetMoments",
]
