"""What the launchers of providers' plugins take from the executable beside code."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DATA = "data/"


class PackedData:
    """The data files in a frozen program, by their names; what the spec calls `data`.

    A daemon must not depend on a directory in /tmp, which the machine may clear up after some days, nor on what is at
    the program's path by then: all is read from the executable that runs.
    """

    def __init__(self, names: list[str], read: "Callable[[str], bytes]") -> None:
        self._names = [name.removeprefix(DATA) for name in names if name.startswith(DATA)]
        self._read = read

    def data_names(self) -> list[str]:
        """Every name that `read` knows."""
        return self._names

    def read(self, name: str) -> bytes:
        """The content of a file; KeyError if there is none of this name."""
        return self._read(DATA + name)


def packed_data() -> PackedData | None:
    """None when the program runs from source, where data files lie beside their modules."""
    try:
        import _archive  # type: ignore[import-not-found]  # the boot loader's (build/bootloader/module.c)
    except ImportError:
        return None
    return PackedData(_archive.names(), _archive.read)


def without_certifi() -> None:
    """Stand in for certifi, of which requests asks at its import where its list of authorities is.

    DSO trusts the machine's (dso/providers/trust.py), and a frozen program has no such file: whatever should ask for
    one by default after all is told of none, and fails.
    """
    module = type(sys)("certifi")
    vars(module)["where"] = lambda: ""
    sys.modules["certifi"] = module
