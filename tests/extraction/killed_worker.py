"""Extracts three Flax models on a data set, saying what is stored: a process to be killed.

python -m extraction.killed_worker DATA_DIR OUT [PAUSE]
"""

import sys
import time
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


if __name__ == "__main__":
    digits = data.load("tfds:scanned_digits/train[:600]", data_dir=sys.argv[1])
    for name in LAYERS:
        out = Path(sys.argv[2], name)
        # small batches and small files, so that there is always something to interrupt
        extraction(make(name), digits, out=out, batch_size=8, shard_rows=100, progress=say)
    say(0, None, "complete")
