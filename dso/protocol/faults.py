"""The agent's faults as DSO's errors: which class, and so which exit code, a code means."""

from __future__ import annotations

import os

from dso import paths
from dso.errors import (
    AgentBusyError,
    AgentForbiddenError,
    AgentProtocolError,
    AgentVersionError,
    ConfigError,
    FileSecretsUnavailableError,
    ProviderFailedError,
    SecretFieldError,
    SecretForbiddenError,
    SecretNotFoundError,
)
from dso.protocol import codes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dso.errors import DsoError
    from dso.protocol.agent import Fault

# In the order in which they decide when a request has several: first what nobody but the author of the
# stack can mend, last what may be gone with the next try.
_CLASSES: tuple[tuple[type[DsoError], frozenset[str], str, str], ...] = (
    (
        SecretNotFoundError,
        frozenset({codes.NOT_FOUND, codes.UNKNOWN_SECRET}),
        "{count} references lead to no secret",
        "`docker dso fetch` lists the secrets of dso.yaml",
    ),
    (SecretFieldError, frozenset({codes.UNKNOWN_FIELD}), "{count} references have no value", ""),
    (
        SecretForbiddenError,
        frozenset({codes.PERMISSION_DENIED, codes.UNAUTHENTICATED}),
        "{count} references may not be read",
        "",
    ),
    (
        ConfigError,
        frozenset({codes.UNKNOWN_PROVIDER, codes.RELOAD_FAILED}),
        "{count} references cannot be read as configured",
        "",
    ),
    (FileSecretsUnavailableError, frozenset({codes.VOLUME_UNAVAILABLE}), "file secrets cannot be delivered", ""),
    (
        ProviderFailedError,
        (codes.PROVIDER_CODES | codes.PLUGIN_CODES) - {codes.NOT_FOUND, codes.PERMISSION_DENIED, codes.UNAUTHENTICATED},
        "{count} references cannot be read: a provider does not work",
        "`docker dso status` shows the providers",
    ),
)


def class_of(fault: Fault) -> type[DsoError]:
    """The error a fault of one reference means; a code this release does not know is a fault of the agent's."""
    return next((kind for kind, known, _, _ in _CLASSES if fault.code in known), AgentProtocolError)


def error_of_references(faults: Sequence[Fault], places: Mapping[str, str]) -> DsoError:
    """One error for every reference that could not be resolved, each with the place that wants it.

    With faults of several kinds the class is that of the first in this order: no such secret, no such
    field, not allowed, wrongly configured, no file secrets, a provider that fails. So a script sees the fault
    that another try cannot mend. The text tells all of them.
    """
    kinds = [class_of(fault) for fault in faults]
    ranked = [entry for entry in _CLASSES if entry[0] in kinds]
    kind, heading, hint = (
        (ranked[0][0], ranked[0][2], ranked[0][3])
        if ranked
        else (AgentProtocolError, "{count} references were refused", "")
    )
    lines = [_line(fault, places.get(fault.reference, "")) for fault in faults]
    hints = list(dict.fromkeys(filter(None, (*(fault.hint for fault in faults), hint))))
    if len(lines) == 1:
        return kind(lines[0], hint="\n".join(hints))
    if len(set(kinds)) > 1:
        heading = "{count} references cannot be resolved"
    return kind("\n  ".join([heading.format(count=len(lines)) + ":", *lines]), hint="\n".join(hints))


def _line(fault: Fault, place: str) -> str:
    where = f" ({place})" if place else ""
    return f"{fault.reference}{where}: {fault.message}" if fault.reference else fault.message


def error_of_request(fault: Fault, socket: str) -> DsoError:
    """The error for a request that was refused as a whole, by the agent at `socket`."""
    if fault.reference:
        return class_of(fault)(f"{fault.reference}: {fault.message}", hint=fault.hint)
    if fault.code == codes.PERMISSION_DENIED and not fault.provider:
        return AgentForbiddenError(fault.message, hint=fault.hint or forbidden_hint(socket))
    if fault.code == codes.BUSY:
        wait = f"try again in {int(fault.retry_after) + 1} s" if fault.retry_after else fault.hint or "try again"
        return AgentBusyError(f"the agent has no room for this request now: {fault.message}", wait, fault.retry_after)
    if fault.code == codes.UNSUPPORTED:
        return AgentVersionError(f"the agent does not know this request: {fault.message}", hint=VERSION_HINT)
    if fault.code == codes.INVALID_REQUEST:
        return AgentProtocolError(f"the agent did not understand the request: {fault.message}", hint=fault.hint)
    return class_of(fault)(fault.message, hint=fault.hint)


def forbidden_hint(socket: str) -> str:
    """What lets a user speak to an agent that refuses it, which depends on whose agent it is."""
    owner = _owner(socket)
    if owner is not None and owner not in (0, os.getuid()):
        return (
            f"that agent belongs to user {_user_name(owner)}: start your own with `dso-agent --config ./dso.yaml`, "
            f"and unset {paths.SOCKET_VARIABLE} if it names the other"
        )
    join = f"`sudo usermod -aG {paths.AGENT_GROUP} $USER`"
    if _group_exists(paths.AGENT_GROUP):
        return f"let this user speak to it: {join}, then log in again"
    return (
        f"there is no group {paths.AGENT_GROUP}, so only root may speak to it: `sudo groupadd --system "
        f"{paths.AGENT_GROUP}`, {join}, start the agent again (`sudo systemctl restart dso-agent`), then log in again"
    )


def _owner(path: str) -> int | None:
    """The uid of who owns a path, or the nearest directory above it that this user may look at."""
    while True:
        try:
            return os.stat(path).st_uid
        except PermissionError:
            path = os.path.dirname(path)
        except OSError:
            return None


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_exists(name: str) -> bool:
    import grp

    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


VERSION_HINT = (
    "docker-dso and dso-agent have to be of one release; after an upgrade: `sudo systemctl restart dso-agent`"
)
