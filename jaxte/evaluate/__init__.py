"""How well scores agree with what fine-tuning really reached.

Measures of one pool (`weighted_tau`, ...) take lists or arrays and, inside jit and vmap, tracers.
`evaluate` compares tables of scores with tables of accuracies over many data sets; `published`
has accuracies from the literature.
"""

from jaxte.evaluate.baselines import noise_ceiling, static_ranking
from jaxte.evaluate.comparison import evaluate
from jaxte.evaluate.measures import (
    MEASURES,
    Measure,
    best_in_top_k,
    gap_fidelity,
    kendall_tau,
    pearson,
    recall_at_k,
    rel_at_k,
    spearman,
    top1_regret,
    weighted_pearson,
    weighted_tau,
)
from jaxte.evaluate.pools import STATIC
from jaxte.evaluate.published import PUBLISHED, Accuracies, published
from jaxte.evaluate.reading import accuracy_table, read_accuracies, read_scores
from jaxte.evaluate.result import Evaluation

__all__ = [
    "MEASURES",
    "PUBLISHED",
    "STATIC",
    "Accuracies",
    "Evaluation",
    "Measure",
    "accuracy_table",
    "best_in_top_k",
    "evaluate",
    "gap_fidelity",
    "kendall_tau",
    "noise_ceiling",
    "pearson",
    "published",
    "read_accuracies",
    "read_scores",
    "recall_at_k",
    "rel_at_k",
    "spearman",
    "static_ranking",
    "top1_regret",
    "weighted_pearson",
    "weighted_tau",
]
