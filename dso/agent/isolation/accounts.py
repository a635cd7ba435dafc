"""Which user a plugin runs as: root's agent has one for each type of provider."""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

from dso.config.provider_schema import TYPES
from dso.paths import AGENT_GROUP, PLUGIN_USER, PLUGIN_USER_PREFIX, PLUGIN_USERS
from dso.protocol.codes import PLUGIN_USER as CODE
from dso.protocol.provider import ProviderError
from dso.system.hardening import CAP_KILL, CAP_SETGID, CAP_SETUID, effective_capabilities

_NEEDED = {CAP_SETUID: "CAP_SETUID", CAP_SETGID: "CAP_SETGID", CAP_KILL: "CAP_KILL"}
_TELLING_GROUPS = ("root", AGENT_GROUP, "docker")  # each is a way back to what the plugin is kept away from
_MAKE = "useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin"


class Account(NamedTuple):
    """A user and its groups, by number; `groups` are the further ones."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def plugin_account(provider_type: str) -> Account:
    """The user for plugins of a type: `dso-TYPE`; for types that DSO does not bring, `dso-plugin` if that is missing.

    May block, as the user database may.

    Raises:
        ProviderError: PLUGIN_USER; there is none, or this process cannot become it. The message says what to do.
    """
    missing = [name for number, name in _NEEDED.items() if not effective_capabilities() >> number & 1]
    if missing:
        raise _refused(
            f"the agent lacks {', '.join(missing)} to run it as a user of its own: a unit of your own needs them in "
            "CapabilityBoundingSet=, as the one that the installer brings has them"
        )
    names = [PLUGIN_USER_PREFIX + provider_type]
    if provider_type not in TYPES:
        names.append(PLUGIN_USER)
    for name in names:
        try:
            return _checked(pwd.getpwnam(name))
        except KeyError:
            continue
    raise _refused(
        f"there is no user {names[-1]} for it to run as; `docker dso system setup` as root makes the users, "
        f"or this: {_MAKE} --uid {PLUGIN_USERS[names[-1]]} {names[-1]}"
    )


def _checked(entry: pwd.struct_passwd) -> Account:
    name, uid, gid = entry.pw_name, entry.pw_uid, entry.pw_gid
    if uid == 0 or gid == 0:
        raise _refused(
            f"the user {name} is root or in its group, and no plugin runs as that: give it a number of its own"
        )
    _check_group(name, gid)
    groups = tuple(group for group in os.getgrouplist(name, gid) if group != gid)
    for told in map(_group_name, groups):
        if told in _TELLING_GROUPS:
            raise _refused(
                f"the user {name} is in the group {told}, which may do more than a plugin: gpasswd -d {name} {told}"
            )
    return Account(name, uid, gid, groups)


def _check_group(name: str, gid: int) -> None:
    """Whoever has the group reads copies of the plugin's files: it has to be the user's own, called as the user is."""
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return  # then nobody is in it by its name either
    if group.gr_name != name:
        raise _refused(
            f"the user {name} has the group {group.gr_name}, and needs one of its own, which lets nobody else read its "
            f"files: groupadd --system {name}; usermod -g {name} {name}"
        )
    for other in group.gr_mem:
        if other != name:
            raise _refused(
                f"{other} is in the group of the user {name}, and could read its files: gpasswd -d {other} {name}"
            )


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return ""


def _refused(why: str) -> ProviderError:
    return ProviderError(CODE, f"the plugin is not started: {why}")
