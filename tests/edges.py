"""Problems at the edge of what can be scored, by kind: rank one, collapsed, hardly any rows."""

import numpy as np
from helpers import Problem, as_kind, blobs

BASE = blobs(24, 6, classes=3)
COLLAPSED = np.eye(3, 6)[BASE.targets]


def replaced(labels: dict[int, int]) -> np.ndarray:
    y = BASE.targets.copy()
    for row, label in labels.items():
        y[row] = label
    return y


def only(column: float) -> np.ndarray:
    """The features with this in one column."""
    return np.where(np.arange(6) == 2, column, BASE.features)


RAMP = np.outer(np.arange(24.0) - 3, np.arange(1.0, 7.0))
# No spread within classes leaves SFDA nothing to divide by, coinciding class means leave FaCe's
# between-class scatter without an inverse: `helpers.UNDEFINED` says who has no score where.
EDGES: dict[str, dict[str, Problem]] = {
    "tall": {
        "two-classes": Problem(BASE.features, np.minimum(BASE.targets, 1)),
        "singleton-class": Problem(BASE.features, replaced({0: 3})),
        "absent-class": Problem(BASE.features, BASE.targets + (BASE.targets > 0).astype(np.int32)),
        "constant-column": Problem(only(3.0), BASE.targets),
        "zero-column": Problem(only(0.0), BASE.targets),
        "one-column-left": Problem(np.where(np.arange(6) == 2, BASE.features, 0.0), BASE.targets),
        "one-column": Problem(BASE.features[:, :1], BASE.targets),
        "rank-one": Problem(RAMP, BASE.targets),
        "large-offset": Problem(BASE.features + 1000, BASE.targets),
        "duplicate-rows": Problem(np.repeat(BASE.features[:6], 4, axis=0), BASE.targets),
        "exact-collapse": Problem(COLLAPSED, BASE.targets),
        "all-zero": Problem(np.zeros((24, 6)), BASE.targets),
        "equal-rows": Problem(np.ones((24, 6)), BASE.targets),
        "equal-means": Problem(
            np.repeat([[1.0], [-1.0]] * 12, 6, axis=1), np.arange(24, dtype=np.int32) // 8
        ),
    },
    "wide": {
        "d-far-above-n": blobs(4, 30, classes=2),
        "every-row-its-class": Problem(
            blobs(5, 9, classes=5).features, np.arange(5, dtype=np.int32)
        ),
        "two-rows": Problem(BASE.features[:2], np.array([0, 1], np.int32)),
    },
    "regression": {},
}
# Probabilities: of the features where these are not probabilities already, zeros included.
EDGES["source"] = {
    name: one
    if np.all(one.features.sum(axis=1) == 1) and one.features.min() >= 0
    else Problem(as_kind("source", np.exp(one.features / (1 + one.features.max()))), one.targets)
    for name, one in EDGES["tall"].items()
}
