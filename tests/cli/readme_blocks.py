"""Code blocks of README and pages; as a script, writes the README's that install as block-N.sh."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "notebooks" / "site").rglob("*.md")))


def blocks(page: Path = README) -> list[tuple[str, str]]:
    """Language and code of every block, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def installs(language: str, code: str) -> bool:
    """Whether a block sets up an environment, so that only `.ci/run` runs it."""
    return language == "bash" and "pip install" in code


def main(directory: str) -> None:
    setting_up = [code for language, code in blocks() if installs(language, code)]
    if len(setting_up) != 2:
        sys.exit(f"README.md has {len(setting_up)} bash blocks that install, expected 2")
    for number, code in enumerate(setting_up, 1):
        Path(directory, f"block-{number}.sh").write_text(code, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
