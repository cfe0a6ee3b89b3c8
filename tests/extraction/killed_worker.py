"""Extracts three Flax models on a data set, saying what is stored: a process to be killed.

python -m extraction.killed_worker DATA_DIR OUT [PAUSE]
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from jaxte import data
from jaxte.extraction.loop import extraction

from .flax_models import LAYERS, make

# seconds after each batch, so that whoever is to kill it comes in time
PAUSE = float(sys.argv[3]) if __name__ == "__main__" and len(sys.argv) > 3 else 0.0


def say(done: int, total: int | None, name: str) -> None:
    sys.stdout.write(f"{name} {done}\n")
    sys.stdout.flush()
    time.sleep(PAUSE)


def extract_all(data_dir: str, out: Path, progress: Callable[[int, int | None, str], None]) -> None:
    """Small batches and small files, so that there is always something to interrupt."""
    digits = data.load("tfds:scanned_digits/train[:600]", data_dir=data_dir)
    for name in LAYERS:
        extraction(
            make(name), digits, out=out / name, batch_size=8, shard_rows=100, progress=progress
        )


if __name__ == "__main__":
    extract_all(sys.argv[1], Path(sys.argv[2]), say)
    say(0, None, "complete")
