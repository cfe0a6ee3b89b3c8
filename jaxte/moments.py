"""One-pass, mergeable class moments of samples that need not be in memory at once."""

from jaxte.statistics.measure import Balance, Moments, TargetMoments
from jaxte.statistics.moments import init, merge, update

__all__ = ["Balance", "Moments", "TargetMoments", "init", "merge", "update"]
