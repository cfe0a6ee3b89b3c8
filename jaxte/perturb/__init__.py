"""Feature perturbations, features -> features, and a transformer metric -> metric.

Each takes ``(features, labels, *, num_classes=None, weights=None, num_features=None, ...)`` like
a metric and returns features of the same rows. With ``return_num_features=True`` it returns also
their true width, which `with_perturbation` hands on to the metric.
"""

from jaxte.perturb.ped import ped
from jaxte.perturb.spread_attract import spread_attract
from jaxte.perturb.steps import attract, pca, spread
from jaxte.perturb.transform import PERTURBATIONS, Perturbation, get_perturbation, with_perturbation

__all__ = [
    "PERTURBATIONS",
    "Perturbation",
    "attract",
    "get_perturbation",
    "pca",
    "ped",
    "spread",
    "spread_attract",
    "with_perturbation",
]
