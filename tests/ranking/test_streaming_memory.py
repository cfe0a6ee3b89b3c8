"""Streamed features take no more memory, nor compilations, the more there are."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import blobs, counted_compilations

import jaxte
from jaxte.statistics import moments

WIDTH, MEGABYTE = 256, 1 << 20
# Prints the peak of all resident memory of the process after each file, pages of mapped files
# included.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import jaxte

form, *paths = sys.argv[1:]
for path in paths:
    mapped = np.load(path, mmap_mode="r")
    features = {"mapped": mapped, "shards": Path(path).parent}[form]
    labels = np.arange(len(mapped), dtype=np.int32) % 3
    ranking = jaxte.rank({"m": features}, labels, memory_limit=32 << 20)
    assert all(ranking.status("m", metric) == "ok" for metric in ranking.metrics), ranking
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def peaks(form: str, *paths: Path) -> list[int]:
    command = [sys.executable, "-c", SCRIPT, form, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) * 1024 for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("form", ["mapped", "shards"])
def test_peak_memory_is_flat_in_the_number_of_samples(form: str, tmp_path: Path) -> None:
    """160 MiB more features, the smaller file first: `python -m benchmarks memory` has 1 and 8 GiB.

    The peak itself varies by some 70 MiB from run to run, as the allocator and threads have it.
    """
    x = np.random.default_rng(0).normal(size=(1 << 12, WIDTH)).astype(np.float32)
    paths = [tmp_path / size / "features.npy" for size in ("small", "large")]
    for path, megabytes in zip(paths, (64, 224), strict=True):
        path.parent.mkdir()
        np.save(path, np.tile(x, (megabytes * MEGABYTE // x.nbytes, 1)))
    small, large = peaks(form, *paths)
    assert large - small < 112 * MEGABYTE, (small, large)


def test_batch_sizes_and_models_of_one_width_share_what_is_compiled() -> None:
    random = np.random.default_rng(0)

    def ranked(sizes: tuple[int, ...], widths: tuple[int, ...]) -> None:
        ends = np.cumsum(np.resize(sizes, 300))
        features = {f"m{d}": random.normal(size=(300, d)) for d in widths}
        pool = {
            name: [part for part in np.split(x, ends) if len(part)] for name, x in features.items()
        }
        result = jaxte.rank(pool, np.arange(300) % 3, precision="float64", memory_limit=1000)
        assert all(result.status(m, k) == "ok" for m in pool for k in result.metrics)

    ranked((64,), (14,))
    with counted_compilations() as names:
        ranked((7, 50, 1, 23), (16, 13, 9))
    assert names == []


@pytest.mark.parametrize(("even", "matrices"), [(True, 1), (False, 2)])
def test_even_classes_need_no_scatter_of_their_own(
    even: bool, matrices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = blobs(90, 7, separation=1.0)
    labels = np.arange(90) % 3 if even else y
    made, init = [], moments.init

    def noted(*sizes: int, **keywords: Any) -> moments.Moments:
        made.append(init(*sizes, **keywords))
        return made[-1]

    monkeypatch.setattr("jaxte.statistics.moments.init", noted)
    result = jaxte.rank({"m": iter(np.split(x, 5))}, labels, metrics="face")
    (state,) = made
    assert sum(np.shape(leaf) == (16, 16) for leaf in jax.tree.leaves(state)) == matrices
    whole = jaxte.rank({"m": x}, labels, metrics="face")
    assert result.score("m", "face") == pytest.approx(whole.score("m", "face"), rel=1e-9)
