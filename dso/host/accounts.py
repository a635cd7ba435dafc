"""The system users that root's agent runs plugins as."""

from __future__ import annotations

from dso.errors import ServiceError
from dso.host.machine import said
from dso.paths import PLUGIN_USERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dso.host.machine import Host

_MAKE = (
    *("useradd", "--system", "--user-group"),
    *("--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"),
)


def missing_users(host: Host, names: Iterable[str] = PLUGIN_USERS) -> list[str]:
    """Those of the users that the machine does not have."""
    return [name for name in names if host.run(["getent", "passwd", name]).code]


def make_user(host: Host, name: str) -> None:
    """Make one of the users, and a group of the same name; ServiceError."""
    if host.run([*_MAKE, "--uid", str(PLUGIN_USERS[name]), name]).code:
        finished = host.run([*_MAKE, name])
        if finished.code:
            raise ServiceError(f"`{' '.join(_MAKE)} {name}` failed: {said(finished)}")
