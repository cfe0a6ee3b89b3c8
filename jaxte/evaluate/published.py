"""Fine-tuning accuracies from the literature: pools to evaluate rankings on, without features."""

from __future__ import annotations

import csv
from pathlib import Path

from jaxte.errors import InputError

__all__ = ["PUBLISHED", "Accuracies", "published"]

_SUN397 = (
    "sun397: these accuracies look out of scale (the linear head of a model is above its full "
    "fine-tuning): leave it out, or say so"
)
_VIT = (
    "the values of the ViTs are those printed for DeiT-tiny, -small and -base elsewhere: which "
    "checkpoints they are of is uncertain"
)
_COARSE = "read off a matrix of few digits: many models tie"

# (pool, regime): where the values come from, and what is suspect about them.
PUBLISHED: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("sfda_cnn", "full"): ("SFDA, github.com/TencentARC/SFDA, tw_group1.py", ()),
    ("sfda_cnn", "last_block"): ("enhancing_TE repository, tw_group1.py", (_SUN397,)),
    ("sfda_cnn", "linear"): ("enhancing_TE repository, tw_group1.py", (_SUN397,)),
    ("sfda_ssl", "full"): ("SFDA, github.com/TencentARC/SFDA, tw_group2.py", ()),
    ("sfda_ssl", "last_block"): ("enhancing_TE repository, tw_group2.py", (_SUN397,)),
    ("sfda_ssl", "linear"): ("enhancing_TE repository, tw_group2.py", (_SUN397,)),
    ("sfda_vit", "full"): ("TE-Bench, github.com/alizkzm/te-guide, guide/ground_truth.py", (_VIT,)),
    ("itm", "full"): ("TE-Bench, github.com/alizkzm/te-guide, guide/ground_truth.py", (_VIT,)),
    ("recall_cv", "full"): ("two-phase-selection repository, CV_coarse_recall", (_COARSE,)),
    ("recall_nlp", "full"): ("two-phase-selection repository, NLP_coarse_recall", (_COARSE,)),
}


class Accuracies(dict[str, dict[str, float]]):
    """Data set -> model -> accuracy in percent, with its `source` and the `notes` on it."""

    def __init__(
        self, values: dict[str, dict[str, float]], source: str, notes: tuple[str, ...]
    ) -> None:
        super().__init__(values)
        self.source = source
        self.notes = notes


def published(pool: str, regime: str = "full") -> Accuracies:
    """Published accuracies of a pool of models, fine-tuned in one way on many data sets.

    Pools: ``sfda_cnn`` (11 supervised CNNs, 11 data sets) and ``sfda_ssl`` (12 self-supervised
    ResNet-50s, 11), each fine-tuned in ``full``, by its ``last_block`` or as ``linear`` probe;
    in ``full`` alone ``sfda_vit`` (10 transformers, 11), ``itm`` (20 mixed, 11), ``recall_cv`` (30
    vision models of a hub, 6), ``recall_nlp`` (39 text models of a hub, 21).

    Args:
        pool: its name.
        regime: how the models were fine-tuned.

    Returns:
        Data set -> model -> accuracy in percent (``recall_nlp`` also has correlations, which may be
        negative); `source` says where from, `notes` what is suspect. `evaluate` takes it as it is.

    Raises:
        InputError: for an unknown pool or regime.

    Example:
        >>> import jaxte
        >>> accuracies = jaxte.evaluate.published("sfda_cnn")
        >>> len(accuracies), accuracies["aircraft"]["resnet34"]
        (11, 84.06)
    """
    if (pool, regime) not in PUBLISHED:
        known = ", ".join("/".join(key) for key in PUBLISHED)
        raise InputError(f"no published accuracies {pool}/{regime}: choose one of {known}")
    path = Path(__file__).with_name("accuracies") / f"{pool}.{regime}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = {
        dataset: {row["model"]: float(row[dataset]) for row in rows}
        for dataset in rows[0]
        if dataset != "model"
    }
    return Accuracies(values, *PUBLISHED[pool, regime])
