"""Where DSO's binaries are: the ones of this machine's Python, and the ones that users install."""

from __future__ import annotations

import os

from tests.support.process import ROOT

# By variant, and the target of make that makes them.
_PLACES = {
    "frozen": (os.path.join(ROOT, "dist", "bin"), "binaries"),
    "release": (os.path.join(ROOT, ".build", "release", "frozen"), "release-binaries"),
}


def directory(variant: str) -> str:
    """The directory of all binaries of a variant, `frozen` or `release`."""
    return _PLACES[variant][0]


def binary(name: str, variant: str = "frozen") -> str:
    """The path of a binary, `docker-dso` say; it has to be there."""
    path = os.path.join(directory(variant), name)
    if not os.access(path, os.X_OK):
        raise AssertionError(f"{path} is missing: run `make {_PLACES[variant][1]}` first")
    return path
