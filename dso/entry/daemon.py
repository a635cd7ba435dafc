"""What the launchers of the agent and of providers' plugins do first."""

import sys

from dso.entry.lazy import Archive, running_executable


def survive_an_upgrade() -> None:
    """Read modules from the program that runs, not from what is at its path by then: a daemon runs for months."""
    importers = sys.modules.get("pyimod02_importers")  # PyInstaller's, there when frozen
    if importers:
        importers.pyz_archive._filename = running_executable()  # noqa: SLF001  # PyInstaller has no public name for it


def packed_data() -> Archive | None:
    """The data files in the frozen program; None when it runs from source, where they lie beside their modules."""
    return Archive(running_executable()) if hasattr(sys, "_MEIPASS") else None
