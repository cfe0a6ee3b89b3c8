"""A process that stores batches and says how many it has stored, to be killed or to compete.

python worker.py DIRECTORY [hold]: with `hold` it stops after one batch until its input ends.
"""

import sys
from typing import Any

import numpy as np

from jaxte import InputError
from jaxte.store import Writer

BATCHES, ROWS = 1500, 8
WHAT: dict[str, Any] = {
    "model": {"name": "net"},
    "data": {"name": "noise"},
    "layers": ["one", "two"],
    "dtype": "bfloat16",
    "shard_rows": 100,
}


def say(text: str) -> None:
    """A line that is read at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    directory, hold = sys.argv[1], sys.argv[2:] == ["hold"]
    try:
        writer = Writer(directory, **WHAT)
    except InputError as error:
        say(f"refused: {error}")
        return 3
    say(f"{len(writer.batches)}")
    for index in range(len(writer.batches), BATCHES):
        random = np.random.default_rng(index)
        features = {"one": random.normal(size=(ROWS, 40)), "two": random.normal(size=(ROWS, 3))}
        labels, logits = random.integers(0, 9, ROWS), random.normal(size=(ROWS, 5))
        writer.append(features, labels, logits, examples=ROWS, digest=f"{index}")
        say(f"{index + 1}")
        if hold:
            sys.stdin.read()
            return 0
    writer.finish()
    say("complete")
    return 0


if __name__ == "__main__":
    sys.exit(main())
