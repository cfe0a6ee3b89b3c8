"""Random searches for a counterexample, at one fixed shape so that nothing recompiles."""

from typing import Any

import jax
import numpy as np
import oracles
import pytest
from helpers import Case, Problem, blobs, score
from hypothesis import assume, given, settings
from hypothesis import strategies as st

X, Y = blobs(14, 5, classes=3, separation=0.8)
counts = st.lists(st.integers(0, 3), min_size=14, max_size=14)
search = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("case", "oracle"),
    [
        (Case("logme", {"variant": "paper"}), oracles.logme),
        (Case("logme", {"variant": "released"}), oracles.logme),
        (Case("sfda", {"shrinkage": 0.1, "shrink_target": "identity"}), oracles.sfda),
        (Case("face", {"covariance": "diagonal"}), oracles.face),
    ],
    ids=["logme-paper", "logme-released", "sfda", "face"],
)
@given(weights=counts)
@search
def test_any_integer_weights_are_repeated_rows(case: Case, oracle: Any, weights: list[int]) -> None:
    """The oracle repeats the rows; two classes and some spread within them remain."""
    present = np.unique(np.repeat(Y, weights))
    assume(len(present) >= 2 and sum(w > 0 for w in weights) > len(present) + 1)
    expected = oracle(X, Y, weights, **case.options)
    assume(np.isfinite(expected) and abs(expected) < 10)
    with jax.enable_x64(True):
        found = score(case, Problem(X, Y), weights=np.array(weights), classes=3)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)


@given(exponent=st.floats(-4, 4), flip=st.booleans())
@search
def test_paper_logme_has_no_scale(exponent: float, flip: bool) -> None:
    case = Case("logme", {"variant": "paper"})
    factor = (-1 if flip else 1) * 10.0**exponent
    with jax.enable_x64(True):
        before = score(case, Problem(X, Y))
        after = score(case, Problem(factor * X, Y))
    assert after == pytest.approx(before, rel=1e-8)


@given(shift=st.lists(st.floats(-100, 100), min_size=5, max_size=5))
@search
def test_sfda_and_face_have_no_origin(shift: list[float]) -> None:
    with jax.enable_x64(True):
        for case in (Case("sfda", {"variant": "paper"}), Case("face", {"covariance": "diagonal"})):
            before = score(case, Problem(X, Y))
            after = score(case, Problem(X + np.array(shift), Y))
            assert after == pytest.approx(before, rel=1e-6)


@given(values=st.lists(st.floats(-3, 3, width=32), min_size=70, max_size=70))
@search
def test_no_evidence_is_above_logme(values: list[float]) -> None:
    """The score is a maximum, so no (alpha, beta) of a coarse dense grid may beat it."""
    x = np.array(values).reshape(14, 5)
    assume(np.linalg.matrix_rank(x) == 5)
    with jax.enable_x64(True):
        found = score(Case("logme", {"variant": "paper"}), Problem(x, Y))
    columns = oracles.target_columns(Y).T
    for alpha in (0.1, 1.0, 10.0):
        for beta in (1.0, 4.0, 20.0):
            here = np.mean([oracles.log_evidence(x, c, alpha, beta) for c in columns]) / 14
            assert here <= found + 1e-9
