"""From paths in DSO to the names that CSMS allows, and versions."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from dso.protocol.codes import INVALID_REQUEST
from dso.protocol.provider import ProviderError
from dso.providers.renamed import Renamed

if TYPE_CHECKING:
    from dso.providers.provider import Request

LONGEST = 64
_ALLOWED = re.compile(r"[A-Za-z0-9_.-]+")
_STAGE = re.compile(r"[^\x00-\x1f/]{1,64}")
_log = logging.getLogger("dso.huawei")


class Names:
    """The names of secrets that were asked for.

    CSMS knows letters, digits, `_`, `-` and `.`. A path may have `/` besides, which becomes `-`; two paths that differ
    in nothing else are one secret, and the log says so.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._renamed = Renamed()

    def check(self, request: Request) -> None:
        """ProviderError if CSMS can have no such secret or version."""
        path, version = request
        name = csms_name(path)
        # Dots alone would lead to another address.
        if any(not part.strip(".") for part in path.split("/")) or not _ALLOWED.fullmatch(name) or len(name) > LONGEST:
            text = f"{_plain(path)} is no name of a secret in CSMS: these have letters, digits, `_`, `-` and `.`,"
            text += f" {LONGEST} at most; single / become hyphens"
            raise ProviderError(INVALID_REQUEST, f"{self._provider}: {text}")
        if version is not None and (not _STAGE.fullmatch(version) or not version.strip(".")):
            text = f"{shown(request)}: that is neither a version's id, such as v3, nor a stage, such as SYSPREVIOUS"
            raise ProviderError(INVALID_REQUEST, f"{self._provider}: {text}")

    def was_read(self, path: str) -> None:
        """Say, once for each path, what its secret is called, and if others are the same secret."""
        name = csms_name(path)
        others = self._renamed.add(path, name)
        if others is not None and name != path:
            _log.debug("%s: %s is the secret %s in CSMS, which does not allow /", self._provider, path, name)
        if others:
            text = "%s: %s and %s are one secret, %s in CSMS: use one of them everywhere"
            _log.warning(text, self._provider, path, " and ".join(others), name)


def csms_name(path: str) -> str:
    """What the secret at a path is called in CSMS."""
    return path.replace("/", "-")


def shown(wanted: Request) -> str:
    """A secret's path, its name where that is another one, and its version, for messages."""
    name = csms_name(wanted.path)
    text = _plain(wanted.path) + (f" (in CSMS: {_plain(name)})" if name != wanted.path else "")
    return f"{text} version {_plain(wanted.version)}" if wanted.version else text


def _plain(text: str) -> str:
    """What is no plain text could mislead a terminal."""
    return ascii(text)[1:-1]
