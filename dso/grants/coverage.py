"""Which directories a grant reaches: those below the granted one that nobody but the user can put files into."""

from __future__ import annotations

import os
from typing import NamedTuple

from dso.system.visible import shell_word

_GROUP_WRITE = 0o020
_OTHERS_WRITE = 0o002
_ACCESS_LIST = "system.posix_acl_access"


class Weakness(NamedTuple):
    """Why a grant does not reach a directory below it.

    `directory` is where somebody else may put files, `why` continues a sentence about it, `remedy` is the
    command that mends it, or what to do instead.
    """

    directory: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.directory} {self.why}"


def ancestry(directory: str) -> list[str]:
    """An absolute, resolved directory and all above it, the deepest first."""
    found = [directory]
    while directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
        found.append(directory)
    return found


def weakness(granted: str, directory: str, uid: int) -> Weakness | None:
    """The first directory, from the granted one down to `directory`, in which others could put files, or None.

    Both paths have to be resolved, and `directory` to be the granted one or below it. Each directory has to belong to
    the user or root, and nobody else may write to it; a group that has no other member is fine (umask 002).
    """
    below = ancestry(directory)
    for each in reversed(below[: below.index(granted) + 1]):
        found = _weakness_of(each, uid)
        if found is not None:
            return found
    return None


def _weakness_of(directory: str, uid: int) -> Weakness | None:
    from stat import S_ISDIR, S_ISVTX

    try:
        status = os.lstat(directory)
    except OSError:
        return Weakness(directory, "does not exist or cannot be looked at", f"ls -ld {shell_word(directory)}")
    if not S_ISDIR(status.st_mode):
        return Weakness(directory, "is not a directory", f"ls -ld {shell_word(directory)}")
    if status.st_uid not in (uid, 0):
        return Weakness(directory, f"belongs to user {status.st_uid}", f"sudo chown {uid} {shell_word(directory)}")
    if status.st_mode & _OTHERS_WRITE:
        is_meant = status.st_mode & S_ISVTX  # /tmp and the like
        remedy = "move the project to a directory of your own" if is_meant else f"chmod o-w {shell_word(directory)}"
        return Weakness(directory, "can be written to by every user", remedy)
    if status.st_mode & _GROUP_WRITE:
        return _weakness_of_group(directory, status.st_gid, uid)
    return None


def _weakness_of_group(directory: str, gid: int, uid: int) -> Weakness | None:
    """The group's bit stands for the users of an access list as well, if there is one."""
    try:
        has_list = _ACCESS_LIST in os.listxattr(directory, follow_symlinks=False)
    except OSError:
        has_list = False  # the file system has none
    if has_list:
        why = "can be written to by users in its access list"
        return Weakness(directory, why, f"setfacl -b {shell_word(directory)} && chmod go-w {shell_word(directory)}")
    if not is_private_group(gid, uid):
        return Weakness(
            directory, f"can be written to by group {_group_name(gid)}", f"chmod g-w {shell_word(directory)}"
        )
    return None


def is_private_group(gid: int, uid: int) -> bool:
    """Whether a group has no member but this user and root, as far as the system's databases say."""
    import grp
    import pwd

    try:
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        return False
    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    users = {known.get(name, -1) for name in members} | {
        entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid
    }
    return users <= {uid, 0}


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
