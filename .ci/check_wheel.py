"""Fail unless a wheel holds every file of the package and nothing beside it."""

import sys
import zipfile
from pathlib import Path

wheel = sys.argv[1]
held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
here = {
    path.as_posix()
    for path in Path("jaxte").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
if held != here:
    sys.exit(f"{wheel}: missing {sorted(here - held)}, unexpected {sorted(held - here)}")
needed = {"jaxte/py.typed"} - held
if needed:
    sys.exit(f"{wheel}: missing {sorted(needed)}")
size = Path(wheel).stat().st_size
print(f"{len(held)} files, {size / 1e6:.1f} MB")
if size > 12e6:
    sys.exit(f"{wheel} has grown to {size} bytes")
