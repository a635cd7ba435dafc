"""botocore's data files where the program is frozen: read from the executable, and from no directory.

build/specs/aws_data.py puts those in that reading secrets takes.
"""

from __future__ import annotations

import gzip
import json
import os
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import DataNotFoundError
from botocore.loaders import Loader

if TYPE_CHECKING:
    from botocore.session import Session

CERTIFICATES = "cacert.pem"  # botocore's, for the machine's are not at one place
_DIRECTORY = "botocore/"


class Packed(Protocol):
    """Files by name."""

    def data_names(self) -> list[str]:
        """Every one's."""
        ...

    def read(self, name: str) -> bytes:
        """One's content."""
        ...


class _Source:
    """Where the data comes from; None: from botocore's own directory."""

    packed: Packed | None = None
    certificates = ""


def use_packed(files: Packed) -> None:
    """Have every session use these files instead of those in botocore's directory."""
    _Source.packed = files
    # OpenSSL reads authorities from a path only; this one lasts as long as the process.
    descriptor = os.memfd_create("cacert", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(files.read(_DIRECTORY + CERTIFICATES))
    _Source.certificates = f"/proc/self/fd/{descriptor}"


def prepare(session: Session) -> None:
    """Let a session find its data, and the authorities it trusts if nobody has named others."""
    if _Source.packed is not None:
        session.register_component("data_loader", PackedLoader(_Source.packed))
        if not session.get_config_variable("ca_bundle"):
            session.set_config_variable("ca_bundle", _Source.certificates)


class PackedLoader(Loader):  # type: ignore[misc]  # botocore has no types
    """Finds what botocore's own loader would find in a directory `data` with only these files.

    In no other: boto3 adds its own to `search_paths`, for models of resources that nobody asks for.
    """

    def __init__(self, files: Packed) -> None:
        super().__init__(include_default_search_paths=False)
        self._files = files
        self._names = {name.removeprefix(_DIRECTORY) for name in files.data_names() if name.startswith(_DIRECTORY)}

    def list_available_services(self, type_name: str) -> list[str]:
        """Services that have a file of this type."""
        return sorted({parts[0] for parts in self._parts(type_name)})

    def list_api_versions(self, service_name: str, type_name: str) -> list[str]:
        """Versions of a service that have a file of this type."""
        found = sorted({parts[1] for parts in self._parts(type_name) if parts[0] == service_name})
        if not found:
            raise DataNotFoundError(data_path=service_name)
        return found

    def load_data_with_path(self, name: str) -> tuple[Any, str]:
        """A file by its path without extension; the path says where it came from, for messages."""
        for file_name in (f"{name}.json", f"{name}.json.gz"):
            if file_name in self._names:
                raw = self._files.read(_DIRECTORY + file_name)
                return json.loads(gzip.decompress(raw) if file_name.endswith(".gz") else raw), file_name
        raise DataNotFoundError(data_path=name)

    def is_builtin_path(self, _path: str) -> bool:
        """Every one of them is."""
        return True

    def _parts(self, type_name: str) -> list[list[str]]:
        split = [name.removesuffix(".gz").removesuffix(".json").split("/") for name in self._names]
        return [parts for parts in split if parts[2:] == [type_name]]  # service, version, type
