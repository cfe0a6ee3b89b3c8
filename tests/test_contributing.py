"""CONTRIBUTING.md's worked examples, followed to the letter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jaxte

PACKAGE = Path(jaxte.__file__).parent
TEXT = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
INSIDE, LINE, OUTSIDE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
USE = """
import numpy as np, jaxte
rng = np.random.default_rng(0)
y = np.arange(60) % 3
x = {f"m{d}": rng.normal(size=(60, d)) + d * np.eye(3, d)[y] for d in (4, 7)}
plain = jaxte.rank(x, y, metrics=["class_spread", "logme"])
batches = jaxte.rank({m: [v[:30], v[30:]] for m, v in x.items()}, y, metrics="class_spread")
for name, own in x.items():
    alone = float(jaxte.metrics.class_spread(own.astype(np.float32), y))
    assert abs(plain.score(name, "class_spread") - alone) < 1e-4 * alone
    assert abs(batches.score(name, "class_spread") - alone) < 1e-4 * alone
print(plain.best("class_spread"))
"""


def test_a_metric_inside_is_one_file_and_one_line(tmp_path: Path) -> None:
    (file,) = re.findall(r"`(jaxte/metrics/class_spread\.py)`", TEXT)
    (room,) = re.findall(r"in `(jaxte/metrics/__init__\.py)`, among", TEXT)
    shutil.copytree(
        PACKAGE, tmp_path / "jaxte", ignore=shutil.ignore_patterns("__pycache__", "zoo")
    )
    (tmp_path / file).write_text(INSIDE, encoding="utf-8")
    with open(tmp_path / room, "a", encoding="utf-8") as registry:
        registry.write(LINE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("m7\n", "")


def test_a_metric_from_outside_is_any_function() -> None:
    scope: dict[str, object] = {"__name__": "example"}
    try:
        exec(compile(OUTSIDE, "CONTRIBUTING.md", "exec"), scope)
    finally:
        jaxte.metrics.registry._METRICS.pop("mean_gap", None)
