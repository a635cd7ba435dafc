"""What both ways of delivering file secrets keep to: names of files and how much a volume may hold."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

STAGING = "..dso"  # where new content is made; what reads whole directories skips names that start with ".."
VOLUME_BYTES = 60 * 1024 * 1024  # of all files of one volume, in whole pages
MAX_NAME_BYTES = 255  # NAME_MAX of a tmpfs
MAX_PATH_BYTES = 2048  # of a name with its directories; PATH_MAX is 4096, and the mount point comes before
MAX_DEPTH = 32
_PAGE = 4096


def name_fault(name: str) -> str | None:
    """Why a volume cannot have a file of this name (a path in it, relative); None when it can."""
    if len(name.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES or name.count("/") >= MAX_DEPTH:
        return f"a file's path has at most {MAX_PATH_BYTES} bytes and {MAX_DEPTH} parts"
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        return "that is no file's name"
    if parts[0] == STAGING:
        return "DSO uses that name itself"
    if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in parts):
        return f"a file's name has at most {MAX_NAME_BYTES} bytes"
    return None


def memory_needed(sizes: Iterable[int]) -> int:
    """How many bytes of memory files of these sizes take: each has whole pages, and one for its inode."""
    return sum(size + _PAGE - size % _PAGE for size in sizes)
