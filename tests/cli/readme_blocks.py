"""The README's code blocks; as a script, writes those that install as block-1.sh, block-2.sh."""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)


def main(directory: str) -> None:
    installing = [block for block in blocks("bash") if "pip install" in block]
    if len(installing) != 2:
        sys.exit(f"README.md has {len(installing)} bash blocks that install, expected 2")
    for number, block in enumerate(installing, 1):
        Path(directory, f"block-{number}.sh").write_text(block, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
