"""Settings every test of the kernels runs under: strict rank promotion, both precisions.

Most of what the tests take is compilation, and most of that is optimisation of code that runs
once: so they leave it out. ``JAXTE_TESTS_OPTIMISED=1`` has it as JAX has it by itself.
Processes that tests start share what they compile, in a directory that goes with the run.
``JAXTE_TESTS_CACHE=DIR`` keeps there what the tests compile, too: a first run gains next to
nothing, as little is compiled twice, and later ones about half of what compiles.
"""

import gc
import itertools
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# BLAS threads that compete for the cores of a busy machine make small factorisations 100 times
# slower; it is read when NumPy and JAX are first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

if os.environ.get("JAXTE_TESTS_OPTIMISED") != "1":
    flags = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
    if jax.__version_info__ < (0, 11):  # later releases do not know it, and end the process
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()

from jaxte.metrics import registry
from jaxte.ranking import streaming
from jaxte.runtime import programs

# The first process of a run makes the directory, its workers inherit it. None of them uses it
# itself.
CACHE = "JAX_COMPILATION_CACHE_DIR"
_own_cache = "" if CACHE in os.environ else tempfile.mkdtemp(prefix="jaxte-tests-")
if _own_cache:
    os.environ[CACHE] = _own_cache
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAXTE_TESTS_CACHE"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
programs._KEPT = 4096  # not only the last few: many tests have shapes in common


def pytest_unconfigure() -> None:
    """Whoever made the directory removes it."""
    if _own_cache:
        shutil.rmtree(_own_cache, ignore_errors=True)


def settle() -> None:
    """What is there by now stays: going through it again and again finds no garbage."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Garbage is looked for seldom, or it takes a tenth of the time: tracing makes little."""
    gc.set_threshold(10_000, 20, 20)
    settle()


# Rooms where Flax models, torch or tables broadcast as they please.
LENIENT = {"benchmarks", "cli", "data", "extraction", "intake", "race", "report", "store", "zoo"}


@pytest.fixture(autouse=True)
def strict_ranks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Arrays of different rank must not broadcast silently in the kernels (Flax models may)."""
    with jax.numpy_rank_promotion("allow" if request.path.parent.name in LENIENT else "raise"):
        yield


_OWN_METRICS = dict(registry._METRICS)


@pytest.fixture(autouse=True)
def own_metrics() -> None:
    """What tests before it registered, examples of documentation too, is forgotten."""
    registry._METRICS.clear()
    registry._METRICS.update(_OWN_METRICS)


_MAPS = Path("/proc/self/maps")
_OFTEN, _MOST = 30, 28_000  # tests between two counts, and mappings: Linux grants 65,530
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def few_executables() -> Iterator[None]:
    """Drop compiled code before a process has too many, each of which takes some hundred mappings.

    Until then it is kept, also between files: most of what the tests take is compilation.
    """
    yield
    if next(_tests) % _OFTEN:
        return
    if _MAPS.exists():
        with _MAPS.open("rb") as lines:
            mappings = sum(1 for _ in lines)
        if mappings > _MOST:
            jax.clear_caches()
            programs.forget()
            gc.unfreeze()
    settle()


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is kept; afterwards those are there again that were, for the next tests."""
    monkeypatch.setattr(programs, "_made", OrderedDict())


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were streamed."""
    names: list[str] = []
    score = streaming.score

    def watched(stream: Any, *arguments: Any, **options: Any) -> streaming.Outcome:
        names.append(stream.name)
        return score(stream, *arguments, **options)

    monkeypatch.setattr(streaming, "score", watched)
    return names


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test with 64-bit JAX types."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once in float32 and once in float64."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
