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
    paths that differ in nothing else would then be one secret without anybody noticing, so the second is refused.
    Upper and lower case are the same to Key Vault, and so they are here: whoever mixes them means one secret.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._renamed = Renamed(provider, "Key Vault", str.lower)

    def wanted(self, path: str, version: str | None) -> Wanted:
        """The secret at a path.

        Raises:
            ProviderError: no name can be made of it, or another path has become the same name; or the version is
                none that Key Vault could have.
        """
        name = re.sub("[_/]", "-", path)
        if "" in path.split("/") or not _ALLOWED.fullmatch(name) or len(name) > LONGEST:
            message = f"{ascii(path)[1:-1]} is no name of a secret in Key Vault: these have letters, digits and hyphens"
            message += f", at most {LONGEST}; _ and single / become hyphens"
            raise ProviderError(INVALID_REQUEST, f"{self._provider}: {message}")
        if self._renamed.claim(path, name) and name != path:
            _log.debug("%s: %s is the secret %s in Key Vault, which allows neither _ nor /", self._provider, path, name)
        if version is not None and not _VERSION.fullmatch(version):
            message = (
                f"{path} has no version {ascii(version[:40])[1:-1]}: those of Key Vault have 32 hexadecimal digits"
            )
            raise ProviderError(NOT_FOUND, f"{self._provider}: {message}")
        shown = path if path == name else f"{path} ({name} in Key Vault)"
        shown += f" version {version}" if version else ""
        return Wanted(name, version and version.lower(), shown, is_renamed=path != name)
