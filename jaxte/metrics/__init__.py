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

# outputs of a model's own head
from jaxte.metrics.leep import *
from jaxte.metrics.pactran import *
from jaxte.metrics.confidence import *
from jaxte.metrics.otce import *

# mixtures
from jaxte.metrics.nleep import *

# discriminants
from jaxte.metrics.lda import *
from jaxte.metrics.hscore_shrinkage import *
from jaxte.metrics.qda import *
from jaxte.metrics.ncti import *
from jaxte.metrics.etran import *
from jaxte.metrics.tvt import *

# separability and collapse
from jaxte.metrics.gbc import *
from jaxte.metrics.transrate import *
from jaxte.metrics.lfc import *
from jaxte.metrics.cdnv import *
from jaxte.metrics.neural_collapse import *
from jaxte.metrics.vci import *
from jaxte.metrics.disco import *
from jaxte.metrics.emms import *
from jaxte.metrics.lead import *
from jaxte.metrics.itm import *

# pairs of samples
from jaxte.metrics.knn import *
from jaxte.metrics.parc import *
from jaxte.metrics.tmi import *
from jaxte.metrics.occam import *

# probes
from jaxte.metrics.linear_probe import *
from jaxte.metrics.nearest_centroid import *
from jaxte.metrics.pactran_gaussian import *

# no labels
from jaxte.metrics.energy import *
from jaxte.metrics.ranks import *
from jaxte.metrics.alpha_req import *
from jaxte.metrics.lidar import *

from jaxte.metrics.combination import *
from jaxte.metrics.metric import *
from jaxte.metrics.registry import *
from jaxte.metrics.score_pool import *
