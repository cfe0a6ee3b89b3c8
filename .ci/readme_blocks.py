"""Write the README's installing bash blocks as block-1.sh, block-2.sh into a directory."""

import re
import sys
from pathlib import Path

blocks = re.findall(r"^```bash\n(.*?)^```", Path("README.md").read_text(), re.M | re.S)
installing = [block for block in blocks if "pip install" in block]
if len(installing) != 2:
    sys.exit(f"README.md has {len(installing)} bash blocks that install, expected 2")
for number, block in enumerate(installing, 1):
    Path(sys.argv[1], f"block-{number}.sh").write_text(block)
