"""What one model raises, wherever it is computed, is its status; the others have their scores."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import jaxte
from jaxte.ranking import buckets, pool, streaming
from jaxte.ranking.plan import ScoringPlan
from jaxte.runtime.programs import Program

Y = np.arange(48) % 4
POOL = {
    f"m{d}": np.random.default_rng(d).normal(size=(48, d)) + np.eye(4, d)[Y] for d in (4, 5, 20, 40)
}
X = POOL["m4"]
BAD = "m5"


def exhausted() -> Exception:
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore")


ERRORS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "memory": (MemoryError, "MemoryError (memory is short: give a smaller memory_limit)"),
    "device": (exhausted, "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
    "value": (lambda: ValueError("odd"), "ValueError: odd"),
    "assertion": (AssertionError, "AssertionError"),
    "own": (lambda: type("OwnError", (Exception,), {})("why"), "OwnError: why"),
    "input": (lambda: jaxte.InputError("do this"), "do this"),
}


def in_memory(
    error: BaseException, patch: pytest.MonkeyPatch, step: str = "_begin"
) -> jaxte.Ranking:
    run = getattr(pool, step)

    def fail(plan: Any, members: Any, *source: Any, **options: Any) -> Any:
        if any(member.name == BAD for member in members):
            raise error
        return run(plan, members, *source, **options)

    patch.setattr(pool, step, fail)
    return jaxte.rank(POOL, Y, metrics="face")


def stacked(error: BaseException, patch: pytest.MonkeyPatch) -> jaxte.Ranking:
    patch.setattr(pool, "platform_of", lambda *_, **__: "gpu")
    return in_memory(error, patch)


def stacked_late(error: BaseException, patch: pytest.MonkeyPatch) -> jaxte.Ranking:
    """As programs of an accelerator fail: when they are waited for."""
    patch.setattr(pool, "platform_of", lambda *_, **__: "gpu")
    return in_memory(error, patch, "_finish")


def on_a_mesh(error: BaseException, patch: pytest.MonkeyPatch) -> jaxte.Ranking:
    rank = jaxte.rank
    mesh = jax.make_mesh((1,), ("models",))
    patch.setattr(jaxte, "rank", lambda *source, **options: rank(*source, mesh=mesh, **options))
    return in_memory(error, patch)


def streamed(error: BaseException, patch: pytest.MonkeyPatch) -> jaxte.Ranking:
    score = streaming.score

    def fail(stream: Any, *source: Any, **options: Any) -> Any:
        if stream.name == BAD:
            raise error
        return score(stream, *source, **options)

    patch.setattr(streaming, "score", fail)
    return jaxte.rank({name: [x[:30], x[30:]] for name, x in POOL.items()}, Y, metrics="face")


ROUTES = {
    "in memory": in_memory,
    "stacked": stacked,
    "late": stacked_late,
    "mesh": on_a_mesh,
    "streamed": streamed,
}


@pytest.fixture(scope="module")
def expected() -> jaxte.Ranking:
    return jaxte.rank(POOL, Y, metrics="face")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_one_model_is_its_status(
    kind: str, route: str, expected: jaxte.Ranking, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, said = ERRORS[kind]
    result = ROUTES[route](make(), monkeypatch)
    status = result.status(BAD, "face")
    assert said in status
    assert "\n" not in status
    assert math.isnan(result.score(BAD, "face"))
    for name in POOL:
        if name != BAD:
            assert result.score(name, "face") == pytest.approx(expected.score(name, "face"))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_stops_all(
    error: type[BaseException], route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error):
        ROUTES[route](error(), monkeypatch)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.filterwarnings("always:3 models:RuntimeWarning", "always:4 models:RuntimeWarning")
def test_what_fails_together_is_scored_in_halves(
    late: bool, expected: jaxte.Ranking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory is short for so many: with a word, as it takes longer."""
    step = "_finish" if late else "_begin"
    run, sizes = getattr(pool, step), []

    def fail(plan: Any, members: Any, *source: Any) -> Any:
        sizes.append(len(members))
        if len(members) > 2:
            raise exhausted()
        return run(plan, members, *source)

    monkeypatch.setattr(pool, step, fail)
    monkeypatch.setattr(pool, "platform_of", lambda *_, **__: "gpu")
    with pytest.warns(RuntimeWarning, match="4 models of 48 rows.* in halves.*RESOURCE_EXHAUSTED"):
        result = jaxte.rank(POOL, Y, metrics="face")
    assert sizes == [4, 2, 2]
    for name in POOL:
        assert result.score(name, "face") == pytest.approx(expected.score(name, "face"))


def test_a_metric_that_fails_together_is_scored_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one alone."""
    expected = jaxte.rank(POOL, Y, metrics=["face", "gbc"])
    run, taken = ScoringPlan.run, []

    def fail(self: ScoringPlan, values: Any, form: Any, route: str, metrics: Any) -> Any:
        taken.append([m.name for m in metrics])
        made = run(self, values, form, route, metrics)
        if len(taken) == 1:
            made["gbc"] = exhausted()
        return made

    monkeypatch.setattr(ScoringPlan, "run", fail)
    monkeypatch.setattr(pool, "platform_of", lambda *_, **__: "gpu")
    with pytest.warns(RuntimeWarning, match="in halves"):
        result = jaxte.rank(POOL, Y, metrics=["face", "gbc"])
    assert taken == [["face", "gbc"], ["gbc"], ["gbc"]]
    for name in POOL:
        for metric in ("face", "gbc"):
            assert result.score(name, metric) == pytest.approx(expected.score(name, metric))


def test_slices_of_an_accelerator() -> None:
    """No larger than keep it busy, and hardly filled up."""
    plan = ScoringPlan((), {}, 3)

    def size(count: int, n: int, d: int, limit: int = 48 << 30) -> int:
        members = tuple(pool.Candidate(str(i), X, Y, None) for i in range(count))
        return buckets.at_once(plan, buckets.Bucket(n, d, members), limit, "gpu")

    assert size(33, 10_000, 2048) == 11
    assert size(200, 2000, 512) == 200
    assert size(5, 200_000, 2048) == 1
    assert 1 <= size(33, 10_000, 2048, 6 << 30) <= 3


@pytest.fixture
def one_shape_does_not_compile(nothing_compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the compiler runs out of memory."""
    lowered = Program.lowered

    def fail(self: Program, *like: Any) -> Any:
        if any(np.shape(leaf)[-1:] == (24,) for leaf in jax.tree.leaves(like)):
            raise exhausted()
        return lowered(self, *like)

    monkeypatch.setattr(Program, "lowered", fail)


@pytest.mark.usefixtures("one_shape_does_not_compile")
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_shape_that_does_not_compile(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "platform_of", lambda *_, **__: platform)
    monkeypatch.setattr(buckets, "_COMPILATION", 0)
    result = jaxte.rank(POOL, Y, metrics="face")
    assert "RESOURCE_EXHAUSTED" in result.status("m20", "face")
    assert sorted(result.order("face")) == ["m4", "m40", "m5"]


def test_where_no_model_is_left_the_reason_is_given_once() -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("no such thing")

    with pytest.raises(jaxte.InputError, match="no such thing") as caught:
        jaxte.rank(POOL, Y, metrics="face", perturb=fail)
    assert str(caught.value).count("no such thing") == 1
    assert all(name in str(caught.value) for name in POOL)


@pytest.mark.parametrize("limit", [1, 10**5, 1 << 40, math.nan, math.inf])
def test_models_side_by_side_stay_below_the_memory_limit(
    limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is larger runs alone, and no limit is waited for, not even one that is none."""
    monkeypatch.setattr(pool, "cores", lambda: 4)
    monkeypatch.setattr(buckets, "_COMPILATION", 0)
    metrics = (jaxte.metrics.get_metric("face"),)
    source = [pool.Candidate(name, x, Y, None) for name, x in POOL.items()] * 6
    under_way: list[int] = []
    most: list[int] = []
    run = pool._run

    def counted(plan: Any, members: Any, bucket: pool.Bucket, *rest: Any, **options: Any) -> Any:
        under_way.append(buckets.bytes_of(bucket))
        most.append(sum(under_way) if len(under_way) > 1 else 0)
        try:
            return run(plan, members, bucket, *rest, **options)
        finally:
            under_way.remove(buckets.bytes_of(bucket))

    monkeypatch.setattr(pool, "_run", counted)
    plan = ScoringPlan(metrics, {}, 4)
    result = list(pool.score(plan, source, memory_limit=limit))  # type: ignore[arg-type]
    assert len(result) == len(source)
    assert math.isnan(limit) or max(most) <= limit


def test_classes_of_batches_keep_what_they_are() -> None:
    """True is 1 to Python, and is no class number."""
    labels, parts = Y > 0, (slice(0, 20), slice(20, 48))
    streamed = jaxte.rank({"m": [(X[part], labels[part]) for part in parts]}, metrics="logme")
    whole = jaxte.rank({"m": X}, labels, metrics="logme")
    assert streamed.meta["class_names"] == whole.meta["class_names"] == ("False", "True")
    mixed = [(X[:20], Y[:20].astype(str)), (X[20:], Y[20:])]
    ranking = jaxte.rank({"m": mixed, "n": X}, {"n": Y}, metrics="logme")
    assert "of several kinds" in ranking.status("m", "logme")
