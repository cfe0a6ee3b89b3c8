"""What is known of the features and targets of one model, whichever way they come."""

from jaxte.statistics.measure import Balance, Moments, TargetMoments
from jaxte.statistics.sample import Batch, Measured, Sample
from jaxte.statistics.statistics import FACTORISED, OF_REDUCED, SHARED, UNSURE, Statistics

__all__ = [
    "FACTORISED",
    "OF_REDUCED",
    "SHARED",
    "UNSURE",
    "Balance",
    "Batch",
    "Measured",
    "Moments",
    "Sample",
    "Statistics",
    "TargetMoments",
]
