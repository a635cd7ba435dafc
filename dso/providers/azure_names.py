"""From paths in DSO to the names that Key Vault allows."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

from dso.protocol.codes import INVALID_REQUEST, NOT_FOUND
from dso.protocol.provider import ProviderError
from dso.providers.renamed import Renamed

LONGEST = 127
_ALLOWED = re.compile(r"[0-9A-Za-z-]+")
_VERSION = re.compile(r"[0-9A-Fa-f]{32}")
_log = logging.getLogger("dso.azure")


class Wanted(NamedTuple):
    """A secret in Key Vault, and what messages call it: its path, the name where that is another one, the version.

    `shown` is empty where it is not about one that somebody asked for, `is_renamed` tells whether the name is another
    one than the path.
    """

    name: str
    version: str | None
    shown: str
    is_renamed: bool = False

    def __str__(self) -> str:
        return self.shown


class Names:
    """The names of secrets that were asked for.

    Key Vault knows letters, digits and hyphens only. A path may have `_` and `/` besides, which become hyphens; two
    paths that differ in nothing else are one secret, and the log says so. Upper and lower case are the same to Key
    Vault, and so they are here: whoever mixes them means one secret.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._renamed = Renamed(str.lower)

    def wanted(self, path: str, version: str | None) -> Wanted:
        """The secret at a path.

        Raises:
            ProviderError: no name can be made of it, or the version is none that Key Vault could have.
        """
        name = _name_of(path)
        if "" in path.split("/") or not _ALLOWED.fullmatch(name) or len(name) > LONGEST:
            message = f"{ascii(path)[1:-1]} is no name of a secret in Key Vault: these have letters, digits and hyphens"
            message += f", at most {LONGEST}; _ and single / become hyphens"
            raise ProviderError(INVALID_REQUEST, f"{self._provider}: {message}")
        if version is not None and not _VERSION.fullmatch(version):
            message = (
                f"{path} has no version {ascii(version[:40])[1:-1]}: those of Key Vault have 32 hexadecimal digits"
            )
            raise ProviderError(NOT_FOUND, f"{self._provider}: {message}")
        shown = path if path == name else f"{path} ({name} in Key Vault)"
        shown += f" version {version}" if version else ""
        return Wanted(name, version and version.lower(), shown, is_renamed=path != name)

    def was_read(self, path: str) -> None:
        """Say, once for each path, what its secret is called, and if others are the same secret."""
        name = _name_of(path)
        others = self._renamed.add(path, name)
        if others is not None and name != path:
            _log.debug("%s: %s is the secret %s in Key Vault, which allows neither _ nor /", self._provider, path, name)
        if others:
            text = "%s: %s and %s are one secret, %s in Key Vault: use one of them everywhere"
            _log.warning(text, self._provider, path, " and ".join(others), name)


def _name_of(path: str) -> str:
    return re.sub("[_/]", "-", path)
