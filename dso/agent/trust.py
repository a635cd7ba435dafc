"""Which programs the agent may start: those that nobody but root, or the agent's own user, could have changed.

Every directory from `/` down to the plugin's file is looked at, symbolic links included. What
passes can only be replaced by those who own it, so there is nobody who could swap the file between
this look and the start: it is started by its path, which is what a one-file binary needs to find
itself (docs/decisions/0008).
"""

from __future__ import annotations

import os
import stat
from shlex import quote
from typing import NamedTuple

from dso.protocol.codes import INVALID_CONFIG, PLUGIN_MISSING, PLUGIN_UNTRUSTED
from dso.protocol.provider import PLUGIN_PREFIX, ProviderError

_TYPE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
_MAX_TYPE = 64
_MAX_LINKS = 40  # as the kernel has it
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class _Found(NamedTuple):
    path: str
    status: os.stat_result


def plugin_file(plugin_dir: str, provider_type: str) -> str:
    """Where the plugin for a type of provider would be.

    Raises:
        ProviderError: the type is no plain word, and could lead out of the directory.
    """
    if not provider_type or len(provider_type) > _MAX_TYPE or not _TYPE_CHARACTERS.issuperset(provider_type):
        raise ProviderError(
            INVALID_CONFIG,
            f"{provider_type[:_MAX_TYPE]!r} is no type of provider: a type has letters a-z, digits, _ and - only",
        )
    return os.path.join(os.path.abspath(plugin_dir), PLUGIN_PREFIX + provider_type)


def trusted_plugin(plugin_dir: str, provider_type: str) -> str:
    """The real path of the plugin for a type of provider, after a look at who could have changed it.

    Directory and file, and every directory above, must belong to root or the agent's own user and be
    writable by nobody else (a directory above may be writable by all if it is sticky, as /tmp is).
    A symbolic link is followed if it stays in the directory.

    Raises:
        ProviderError: PLUGIN_MISSING, PLUGIN_UNTRUSTED or INVALID_CONFIG; the message has the command that mends it.
    """
    path = plugin_file(plugin_dir, provider_type)
    try:
        directory = _follow(os.path.dirname(path)).path
        status = os.lstat(directory)
        if status.st_mode & _OTHERS_MAY_WRITE:
            raise _untrusted(directory, "can be written by other users", f"chmod go-w {quote(directory)}")
        found = _follow(os.path.join(directory, os.path.basename(path)))
    except OSError as error:
        raise _missing(path, provider_type, error) from None
    if not found.path.startswith(directory.rstrip("/") + "/"):
        raise _untrusted(
            path,
            f"is a symbolic link out of its directory, to {found.path}",
            f"install -m 0755 {quote(found.path)} {quote(path)}",
        )
    if not stat.S_ISREG(found.status.st_mode):
        raise _untrusted(found.path, "is no regular file", "replace it by the plugin's program")
    if not os.access(found.path, os.X_OK, effective_ids=True):
        raise _untrusted(found.path, "is not executable", f"chmod 0755 {quote(found.path)}")
    return found.path


def _follow(path: str) -> _Found:
    """Walk from `/` to where a path leads, links resolved; every step on the way is trusted, or ProviderError."""
    found = _step("/")
    ahead = path.split("/")[::-1]
    links = 0
    while ahead:
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            found = _step(os.path.dirname(found.path))
            continue
        if not stat.S_ISDIR(found.status.st_mode):
            raise NotADirectoryError(20, "Not a directory", found.path)
        step = _step(os.path.join(found.path, part))
        if not stat.S_ISLNK(step.status.st_mode):
            found = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(40, "Too many levels of symbolic links", path)
        target = os.readlink(step.path)
        if target.startswith("/"):
            found = _step("/")
        ahead += target.split("/")[::-1]
    return found


def _step(path: str) -> _Found:
    """One file, directory or link on the way, which must be trusted."""
    status = os.lstat(path)
    if status.st_uid not in (0, os.geteuid()):
        raise _untrusted(
            path,
            f"belongs to user {status.st_uid}, not to {_trusted_users()}",
            f"chown {'-h ' if stat.S_ISLNK(status.st_mode) else ''}{os.geteuid()} {quote(path)}",
        )
    writable = status.st_mode & _OTHERS_MAY_WRITE and not stat.S_ISLNK(status.st_mode)
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if writable and not sticky:
        raise _untrusted(path, "can be written by other users", f"chmod go-w {quote(path)}")
    return _Found(path, status)


def _trusted_users() -> str:
    return "root" if os.geteuid() == 0 else f"root or user {os.geteuid()}"


def _untrusted(path: str, fault: str, remedy: str) -> ProviderError:
    return ProviderError(PLUGIN_UNTRUSTED, f"the plugin is not started, since {path} {fault}; to mend it: {remedy}")


def _missing(path: str, provider_type: str, error: OSError) -> ProviderError:
    if isinstance(error, FileNotFoundError):
        return ProviderError(
            PLUGIN_MISSING,
            f"there is no plugin for providers of type {provider_type!r}: {path} does not exist; install it as "
            f"{_trusted_users()} (`install -D -m 0755 {quote(os.path.basename(path))} {quote(path)}`), "
            "or name its directory with --plugin-dir or DSO_PLUGIN_DIR",
        )
    return ProviderError(PLUGIN_MISSING, f"the plugin {path} cannot be reached: {error.strerror}: {error.filename}")
