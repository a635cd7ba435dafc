"""Getting the programs DSO is measured beside (build/machine/peers.sh)."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from tests.support.process import ROOT, run

SCRIPT = os.path.join(ROOT, "build", "machine", "peers.sh")
TIMEOUT = 1800  # seconds: some are built from source


class Peer(NamedTuple):
    """A program: its path and version, or `why` it cannot be had here."""

    name: str
    path: str = ""
    version: str = ""
    why: str = ""


def get(name: str) -> Peer:
    """Have a program installed, the first time; later this takes no time."""
    done = run([SCRIPT, name], check=False, timeout=TIMEOUT)
    if done.returncode:
        return Peer(name, why=reason(done.err))
    path, version = done.out.splitlines()
    return Peer(name, path, version)


def reason(said: str) -> str:
    """The last line that a program said, fit for the page: in one cell, without addresses of this machine's set-up."""
    lines = [line for line in said.splitlines() if line.strip()]
    text = re.sub(r"\s*\S*://\S+", "", lines[-1] if lines else "it said nothing").removeprefix("peers.sh: ")
    return text.replace("|", "/").strip()
