"""What the launchers of the agent and of providers' plugins do first."""

import sys

from dso.entry.lazy import Archive, running_executable

# Looked up by name when a host name is resolved (idna), a file begins with a mark, or a header is not ASCII.
CODECS = ("idna", "iso8859_1", "utf_8_sig")


def survive_an_upgrade() -> None:
    """Depend on no file any more but the program that runs: a daemon runs for months.

    By then another version may be at its path, and the machine may have cleared up its temporary
    directory. Modules are read from the archive of this process's own program; codecs, which are
    not in there, are loaded now.
    """
    importers = sys.modules.get("pyimod02_importers")  # PyInstaller's, there when frozen
    if importers:
        importers.pyz_archive._filename = running_executable()  # noqa: SLF001  # PyInstaller has no public name for it
        for name in CODECS:
            "".encode(name)


def packed_data() -> Archive | None:
    """The data files in the frozen program; None when it runs from source, where they lie beside their modules."""
    return Archive(running_executable()) if hasattr(sys, "_MEIPASS") else None
