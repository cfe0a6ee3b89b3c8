"""The judge of ensembles: a ridge head on stacked features, by sums of products of rows."""

import numpy as np
import pytest
from helpers import blobs
from sklearn.linear_model import RidgeCV

from benchmarks.ensembles import PENALTIES, Judge


@pytest.mark.parametrize("members", [("a",), ("b", "a")])
def test_the_head_is_that_of_scikit_learn(members: tuple[str, ...]) -> None:
    x, y = blobs(120, 12, separation=1.0)
    models = {"a": 30 * x[:, :5], "b": x[:, 5:] + 7}
    train, test = (
        {name: f[part] for name, f in models.items()} for part in (slice(70), slice(70, None))
    )
    stacked = [
        np.hstack(
            [
                (features[name] - train[name].mean(axis=0)) / np.sqrt(train[name].var(axis=0).sum())
                for name in members
            ]
        )
        for features in (train, test)
    ]
    head = RidgeCV(alphas=70 * PENALTIES, alpha_per_target=False).fit(stacked[0], np.eye(4)[y[:70]])
    expected = (head.predict(stacked[1]).argmax(axis=1) == y[70:]).mean()
    assert 0.3 < expected < 0.98
    assert Judge(train, test, (y[:70], y[70:])).accuracy(members) == expected
