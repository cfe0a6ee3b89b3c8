"""`rank`, from what a user hands in to the `Ranking` of a pool of models."""

from jaxte.ranking.result import Ranking

__all__ = ["Ranking"]
