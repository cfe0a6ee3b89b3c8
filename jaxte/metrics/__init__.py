"""Transferability metrics as pure functions: arrays in, one scalar out, larger is better.

All share one signature, ``metric(features, labels_or_targets, *, num_classes=None, weights=None,
num_features=None, ...)``, and compose with jit, vmap and grad. Where moments suffice,
``metric_from_moments(state)`` scores samples that were never in memory at once.
"""

# One line per metric: its public functions become names here, its record registers itself. The
# usual ones come first, in messages and tables too.
# isort: off
from jaxte.metrics.logme import *
from jaxte.metrics.sfda import *
from jaxte.metrics.face import *
from jaxte.metrics.hscore import *
from jaxte.metrics.ridge_probe import *
from jaxte.metrics.knn import *
from jaxte.metrics.parc import *
from jaxte.metrics.tmi import *
from jaxte.metrics.occam import *

from jaxte.metrics.metric import *
from jaxte.metrics.registry import *
