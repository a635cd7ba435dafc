"""The system users that root's agent runs plugins as."""

from __future__ import annotations

from dso import paths
from dso.host.installation import OWN_TYPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dso.host.machine import Host

PLUGIN_USERS = (*(paths.PLUGIN_USER_PREFIX + one for one in OWN_TYPES), paths.PLUGIN_USER)
_OPTIONS = [
    "--system",
    "--user-group",
    "--no-create-home",
    "--home-dir",
    "/nonexistent",
    "--shell",
    "/usr/sbin/nologin",
]


def missing_users(host: Host, names: Iterable[str] = PLUGIN_USERS) -> list[str]:
    """Those of the users that the machine does not have."""
    return [name for name in names if host.run(["getent", "passwd", name]).code]


def making(name: str) -> list[str]:
    """The command that makes a user, and a group of the same name."""
    return ["useradd", *_OPTIONS, name]
