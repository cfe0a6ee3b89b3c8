"""How fast the device is: its ceilings, metrics against their floors, rivals, pools, growth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from benchmarks import account, contestants, memory, problems, rivals, timing, torch_rivals
from benchmarks.clones import MissingError
from benchmarks.device_run import Row, Run, Step
from benchmarks.device_trace import traced
from benchmarks.stats import exponents
from jaxte.errors import said

_PATIENCE = 6.0  # seconds spent on repeats of one
# Seconds that compiling and running one more metric takes at most.
_ONE = 15.0


def _timed(run: Run, call: Callable[[], Any]) -> tuple[float, Any]:
    """Least seconds of a call that has run before, and what it returns."""
    first, value = timing.once(call)
    runs = timing.interleaved({"": call}, {"": first}, run.sizes.repeats, _PATIENCE)[""]
    return min([first, *runs]), value


# --- ceilings -------------------------------------------------------------------------------------


def ceilings(run: Run) -> Iterator[Row]:
    """One large product of each type, one large copy on the device, one from the host and back."""
    import jax
    import jax.numpy as jnp

    size = run.sizes.product
    highest, fast = jax.lax.Precision.HIGHEST, jax.lax.Precision.DEFAULT
    kinds = {
        "float64": ("float64", highest),
        "float32": ("float32", highest),
        "float32 with TF32": ("float32", fast),
        "bfloat16": ("bfloat16", fast),
    }
    with jax.enable_x64(True):
        for name, (dtype, precision) in kinds.items():
            a = jax.random.normal(jax.random.key(0), (size, size), dtype)
            made = contestants.ahead(partial(jnp.matmul, precision=precision), a, a)
            seconds, _ = _timed(run, made.run)
            run.ceilings[name] = 2 * size**3 / seconds
            yield {"what": f"product, {name}", "seconds": seconds, "rate": run.ceilings[name]}
        x = jax.random.normal(jax.random.key(0), (run.sizes.copied // 8,), "float64")
        made = contestants.ahead(lambda x: x + 1, x)
        seconds, _ = _timed(run, made.run)
        run.ceilings["copy"] = 2 * x.nbytes / seconds
        yield {"what": "copy, read and written", "seconds": seconds, "rate": run.ceilings["copy"]}
        # as many arrays as a pool has, of the size of its features
        host = np.random.default_rng(0).standard_normal((16, run.sizes.copied // 128), "float32")
        seconds, there = _timed(run, lambda: jax.block_until_ready(jax.device_put([*host])))
        run.ceilings["from host"] = host.nbytes / seconds
        yield {"what": "from the host", "seconds": seconds, "rate": run.ceilings["from host"]}
        begun = time.perf_counter()
        np.array(there[0])
        seconds = time.perf_counter() - begun
        yield {"what": "to the host", "seconds": seconds, "rate": host[0].nbytes / seconds}


def solvers(run: Run) -> Iterator[Row]:
    """What decides LogME's route: eigenvectors, tridiagonal form, Cholesky alone and batched."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from jaxte.statistics.linalg import factor_of

    calls: dict[str, tuple[Callable[[Any], Any], float]] = {
        "cholesky": (jnp.linalg.cholesky, account.CHOLESKY),
        "cholesky, one by one": (partial(lax.map, jnp.linalg.cholesky), account.CHOLESKY),
        "cholesky in strips": (lambda a: factor_of(a).strips, account.CHOLESKY),
        "LogME's forms": (_forms, 16.0),
        "eigenvectors": (jnp.linalg.eigh, account.EIGENVECTORS),
        "tridiagonal": (lax.linalg.tridiagonal, account.TRIDIAGONAL),
        "product": (lambda a: jnp.matmul(a, a, precision=lax.Precision.HIGHEST), 2.0),
    }
    for dtype in ("float64",) if run.quick else ("float64", "float32"):
        with jax.enable_x64(dtype == "float64"):
            for d in run.sizes.solved:
                rows = np.random.default_rng(0).standard_normal((d + 16, d))
                a = jnp.asarray(rows.T @ rows / d, dtype)
                for name, (solve, share) in calls.items():
                    for many in sorted({1, run.sizes.many}):
                        if not run.has(_ONE):
                            return
                        batch = "one by one" in name  # takes a batch by itself
                        x = a if many == 1 and not batch else jnp.stack([a] * many)
                        call = solve if many == 1 or batch else jax.vmap(solve)
                        row = {"what": name, "dtype": dtype, "d": d, "many": many}
                        try:
                            made = contestants.ahead(call, x)
                            seconds, _ = _timed(run, partial(_waited, made.run))
                        except Exception as error:
                            yield {**row, "failed": said(error)}
                            continue
                        rate = many * share * d**3 / seconds
                        yield {**row, "seconds": seconds, "rate": rate, "compile": made.compile}


def _forms(a: Any) -> Any:
    """What takes the place of eigenvectors: 48 factors, and the forms of 100 targets in each."""
    import jax.numpy as jnp

    from jaxte.statistics.normal import Normal
    from jaxte.statistics.shifted import shifted_normal

    cross, ones = a[:, :100], jnp.ones(min(100, len(a)), a.dtype)
    n = jnp.asarray(float(len(a)), a.dtype)
    return shifted_normal(Normal(a, cross, n * ones, a[0], 0.5 * ones, n, n)).coefficients


def _waited(call: Callable[[], Any]) -> Any:
    """Of a call that returns several arrays."""
    import jax

    return jax.block_until_ready(call())


# --- one model ------------------------------------------------------------------------------------


def goal_alone(run: Run) -> Iterator[Row]:
    """The metrics of the goal on features that lie on the device, in both precisions."""
    for dtype in ("float64", "float32"):
        yield from _metrics(run, run.sizes.metrics, dtype, *run.sizes.case)


def others_alone(run: Run) -> Iterator[Row]:
    """The other metrics that have an account."""
    names = [name for name in account.ACCOUNTS if name not in account.GOAL]
    yield from _metrics(run, names[:2] if run.quick else names, "float64", *run.sizes.case)


def _metrics(
    run: Run, metrics: Sequence[str], dtype: str, n: int, d: int, classes: int
) -> Iterator[Row]:
    import jax
    import jax.numpy as jnp

    x, y = problems.problem(n, d, classes, seed=0)
    with jax.enable_x64(dtype == "float64"):
        there, labels = jnp.asarray(x, dtype), jnp.asarray(y)
        for metric in metrics:
            if not run.has(_ONE):
                return
            row = {"metric": metric, "dtype": dtype, "n": n, "d": d, "classes": classes}
            try:
                made = contestants.own(metric, {}, there, labels, classes)
                seconds, score = _timed(run, made.run)
            except Exception as error:
                yield {**row, "failed": said(error)}
                continue
            work = account.of(metric, n, d, classes, entry=there.dtype.itemsize)
            of_floor: Row = {}
            if {dtype, "copy"} <= run.ceilings.keys():
                floor = work.floor(run.ceilings[dtype], run.ceilings["copy"])
                of_floor = {"floor": floor, "share": floor / seconds}
            yield {
                **row,
                "seconds": seconds,
                "compile": made.trace + made.compile,
                "score": float(score),
                **of_floor,
                "rate": work.operations / seconds,
                "peak": (memory.device() or {}).get("peak"),
            }


def torch_formulas(run: Run) -> Iterator[Row]:
    """The same on the same card in torch, and transformer-ranker where it is installed."""
    import jax
    import jax.numpy as jnp

    n, d, classes = run.sizes.case
    x, y = problems.problem(n, d, classes, seed=0)
    x = x.astype(np.float64)
    released: list[tuple[str, str, dict[str, Any], Callable[[], Any]]] = []
    for rival in torch_rivals.RIVALS[2 if run.quick else 0 :]:
        call = torch_rivals.ready(rival, x, y, classes)  # without torch the step ends here
        released.append(("formula in torch", rival.metric, dict(rival.options), call))
    try:
        one = next(r for r in rivals.RIVALS if r.name == "transformer-ranker")
        score = rivals.loaded(one, {})
        released.insert(0, (one.name, one.metric, dict(one.reference or {}), lambda: score(x, y)))
    except MissingError as error:
        yield {"skipped": str(error)}
    with jax.enable_x64(True):
        there, labels = jnp.asarray(x), jnp.asarray(y)
        for name, metric, options, call in released:
            if not run.has(2 * _ONE):
                return
            made = contestants.own(metric, options, there, labels, classes)
            own, score_of_own = _timed(run, made.run)
            seconds, theirs = _timed(run, call)
            yield {
                "name": name,
                "metric": metric,
                "n": n,
                "d": d,
                "classes": classes,
                "seconds": seconds,
                "own": own,
                "ratio": seconds / own,
                "difference": float(theirs) - float(score_of_own),
            }


# --- pools ----------------------------------------------------------------------------------------


def goal_pool(run: Run) -> Iterator[Row]:
    """The pool of the goal: one width, features on the host."""
    models, n, d, classes = run.sizes.goal
    yield from _pool(run, [d] * models, n, classes)


def ragged_pools(run: Run) -> Iterator[Row]:
    """Pools of the widths of usual networks."""
    for models, n, classes in run.sizes.pools:
        if run.has(3 * _ONE):
            yield from _pool(run, problems.pool_widths(models, run.sizes.widths), n, classes)


def _models(widths: Sequence[int], n: int, classes: int) -> tuple[dict[str, Any], Any]:
    """Features, each an array of its own and as cheap to make as can be, and labels."""
    y = problems.labels(n, classes, 0)
    base = problems.features(y, max(widths), classes, seed=0)
    scaled = (
        np.ascontiguousarray(base[:, :d]) * np.float32(1 + i / 100) for i, d in enumerate(widths)
    )
    return {f"{i}-{d}": x for (i, d), x in zip(enumerate(widths), scaled, strict=True)}, y


def where_time_goes(run: Run) -> Iterator[Row]:
    """Kernels, copies and the host in the pool of the goal, and in each of its metrics."""
    import jaxte

    models, n, d, classes = run.sizes.goal
    features, y = _models([d] * models, n, classes)
    for metrics in (account.GOAL, *((metric,) for metric in run.sizes.metrics)):
        if not run.has(_ONE):
            return
        call = partial(jaxte.rank, features, y, metrics=metrics)
        call()
        for row in traced(call):
            yield {"metrics": "all" if len(metrics) > 1 else metrics[0], **row}


def _pool(run: Run, widths: Sequence[int], n: int, classes: int) -> Iterator[Row]:
    """As `jaxte.rank` takes it, float32 on the host: the first call, and the least of the next."""
    import jaxte
    from benchmarks.device_right import as_accelerator

    models, y = _models(widths, n, classes)

    def rank() -> Any:
        return jaxte.rank(models, y, metrics=account.GOAL)

    with as_accelerator() if run.quick else nullcontext():
        first, ranking = timing.once(rank)
        seconds, _ = _timed(run, rank)
    dtype = ranking.meta["precision"]
    rates = run.ceilings.get(dtype, np.inf), run.ceilings.get("copy", np.inf)
    works = [account.of(metric, n, d, classes) for metric in account.GOAL for d in widths]
    failed = {s for m in models for k in account.GOAL if (s := ranking.status(m, k)) != "ok"}
    yield {
        "models": len(widths),
        "n": n,
        "classes": classes,
        "widths": sorted(set(widths)),
        "dtype": dtype,
        "first": first,
        "seconds": seconds,
        "floor": sum(work.floor(*rates) for work in works),
        "sent": sum(x.nbytes for x in models.values()) / run.ceilings.get("from host", np.inf),
        "peak": (memory.device() or {}).get("peak"),
        **({"failed": "; ".join(sorted(failed)), "wrong": True} if failed else {}),
    }


# --- growth ---------------------------------------------------------------------------------------


def growth(run: Run) -> Iterator[Row]:
    """Seconds against n and d, of features on the device; the exponent of the upper half."""
    base = dict(zip(("n", "d", "classes"), run.sizes.base, strict=True))
    for axis, points in run.sizes.growth.items():
        timings: dict[str, list[tuple[int, float]]] = {}
        for point in points:
            case = {**base, axis: point}
            for row in _metrics(run, run.sizes.metrics[:3], "float64", **case):
                yield {"axis": axis, **row}
                if "seconds" in row:
                    timings.setdefault(row["metric"], []).append((point, row["seconds"]))
        for metric, pairs in timings.items():
            if len(pairs) > 1:
                x, seconds = zip(*pairs, strict=True)
                fit = exponents([float(one) for one in x], list(seconds))
                yield {"axis": axis, "metric": metric, "exponent": fit.upper}


STEPS = (
    Step("ceilings", 20, ceilings, "large products and copies"),
    Step("metrics of the goal", 60, goal_alone, "one model, on the device"),
    Step("pool of the goal", 30, goal_pool, "33 models, features on the host"),
    Step("profile", 40, where_time_goes, "what the pool of the goal spends its time on"),
    Step("torch", 50, torch_formulas, "the same formulas in torch on the same card"),
    Step("solvers", 45, solvers, "what decides LogME's route"),
    Step("pools", 75, ragged_pools, "ragged pools, features on the host"),
    Step("other metrics", 60, others_alone, "one model, on the device"),
    Step("growth", 60, growth, "in n and d"),
)
