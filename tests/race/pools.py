"""Pools of made-up models whose final scores and paired examples are known."""

import numpy as np


class Pool:
    """Models whose score at a budget is the final one, less a drift that shrinks to nothing."""

    def __init__(self, count: int, seed: int, *, spread: float = 0.05, drift: float = 0.03):
        rng = np.random.default_rng(seed)
        self.names = [f"m{i}" for i in range(count)]
        self.final = dict(zip(self.names, 0.7 + spread * rng.normal(size=count), strict=True))
        self.drift = dict(zip(self.names, drift * rng.normal(size=count), strict=True))
        self.hard = rng.normal(0, 0.4, 300)
        self.own = {name: rng.normal(0, 0.15, 300) for name in self.names}
        self.calls: list[tuple[str, float, int]] = []

    @property
    def best(self) -> str:
        return max(self.final, key=self.final.__getitem__)

    def trial(self, model: str, budget: float, seed: int) -> np.ndarray:
        self.calls.append((model, budget, seed))
        rng = np.random.default_rng([seed, int(1000 * budget), self.names.index(model)])
        level = self.final[model] - self.drift[model] * -np.log2(budget) / 4 - 0.1 * (1 - budget)
        return level + self.hard + self.own[model] + rng.normal(0, 0.1, 300)
