"""Copy the shells' scripts for `docker-dso` to a directory: `completions.py OUTDIR`.

They know no command and no flag: they ask the program. So there is nothing in them to go stale.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "installer" / "completions"
SCRIPTS = ("bash/docker-dso", "zsh/_docker-dso", "fish/docker-dso.fish")


def main(outdir: str) -> None:
    """Copy them, readable for everybody."""
    for script in SCRIPTS:
        target = Path(outdir, script)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE / script, target)
        target.chmod(0o644)


if __name__ == "__main__":
    main(sys.argv[1])
