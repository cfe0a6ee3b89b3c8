"""What importing jaxte costs, seen from a fresh interpreter."""

import re
import subprocess
import sys
import tomllib
from operator import attrgetter
from pathlib import Path

import pytest

HEAVY = [
    *("flax", "optax", "safetensors", "tensorflow", "tensorflow_datasets", "torch"),
    *("matplotlib", "pandas", "rich", "scipy.stats", "sklearn", "typer"),
    *("PIL", "array_record", "datasets", "pyarrow", "transformers"),
]
PROBE = """
import sys
before = set(sys.modules)
{statement}
print(" ".join(sorted(m for m in {heavy!r} if m in sys.modules and m not in before)))
"""


def imported(statement: str, heavy: list[str]) -> list[str]:
    """Which heavy modules a statement loads in a fresh interpreter."""
    code = PROBE.format(statement=statement, heavy=heavy)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import jaxte; jaxte.__version__; jaxte.InputError",
        "import jaxte; jaxte.rank; jaxte.Ranking; jaxte.metrics.logme; jaxte.perturb.spread",
        "import jaxte; jaxte.evaluate.weighted_tau; jaxte.stream; jaxte.moments.init",
        "import jaxte; jaxte.race, jaxte.race.Race, jaxte.race.Stop",
        "import jaxte; jaxte.extract; jaxte.data.load; jaxte.FeatureStore, jaxte.extraction.Model",
    ],
)
def test_import_needs_jax_and_numpy_only(statement: str) -> None:
    assert imported(statement, HEAVY) == []


def test_jaxte_loads_no_scipy_that_jax_does_not() -> None:
    heavy = ["scipy", "scipy.linalg", "scipy.special", "scipy.optimize", "scipy.stats"]
    assert imported("import jaxte; jaxte.rank", heavy) == imported(
        "import jax.numpy, jax.scipy", heavy
    )


def test_import_leaves_the_precision_flag_alone() -> None:
    code = "import jaxte, jax; jaxte.rank; assert not jax.config.jax_enable_x64"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_resolve() -> None:
    import jaxte

    for name in jaxte.__all__:
        assert getattr(jaxte, name) is not None
    assert set(jaxte.__all__) <= set(dir(jaxte))
    with pytest.raises(AttributeError, match="no_such_name"):
        attrgetter("no_such_name")(jaxte)


def test_all_extras_leave_torch_to_the_user() -> None:
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    wanted, seen, packages = ["all"], set(), set()
    while wanted:
        extra = wanted.pop()
        seen.add(extra)
        for line in extras[extra]:
            name, *more = re.findall(r"[\w-]+", line.partition(">")[0].partition(";")[0])
            packages.add(name)
            wanted += [one for one in more if name == "jaxte" and one not in seen]
    assert {"transformers", "flax", "datasets"} <= packages
    assert not packages & {"torch", "timm", "torchvision"}
