"""Which directories a grant reaches: those below the granted one that nobody but the user can put files into.

Nor may anybody else be able to put another directory in the granted one's place, so what is above it counts too.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from dso.system.visible import shell_word

_GROUP_WRITE = 0o020
_OTHERS_WRITE = 0o002
_ACCESS_LIST = "system.posix_acl_access"
_OVERFLOW_USER = 65534  # how the kernel shows a user that has no number in our user name space
_UID_MAP = "/proc/self/uid_map"
_ELSEWHERE = "move the project to a directory of your own"


class Weakness(NamedTuple):
    """Why a grant does not count, or does not reach a directory below it.

    `directory` is where somebody else may put or replace files, `why` continues a sentence about it, `remedy` is the
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
    """The first directory, from the root down to `directory`, in which others could put or replace files, or None.

    Both paths have to be resolved, and `directory` to be the granted one or below it. From the granted one down, each
    directory has to belong to the user or root, and nobody else may write to it; a group that has no other member is
    fine (umask 002). Above it the same is asked, since who can write there can rename what is in it, but for sticky
    directories (/tmp): only the owner of what is in one can rename that, and the next directory's owner is looked at.
    """
    for each in reversed(ancestry(directory)):
        found = _weakness_of(each, uid, is_above=len(each) < len(granted))
        if found is not None:
            return found
    return None


def _weakness_of(directory: str, uid: int, *, is_above: bool) -> Weakness | None:
    from stat import S_ISDIR, S_ISVTX

    fault = "is not a directory"
    try:
        status = os.lstat(directory)
    except OSError:
        fault, status = "does not exist or cannot be looked at", None
    if status is None or not S_ISDIR(status.st_mode):
        return Weakness(directory, fault, f"ls -ld {shell_word(directory)}")
    if status.st_uid not in (uid, 0) and not (is_above and _is_from_outside(status.st_uid)):
        remedy = _ELSEWHERE if is_above else f"sudo chown {uid} {shell_word(directory)}"
        return Weakness(directory, f"belongs to user {status.st_uid}", remedy)
    is_sticky = bool(status.st_mode & S_ISVTX)
    if is_above and is_sticky:
        return None
    sudo = "" if uid in (0, status.st_uid) else "sudo "
    found = _weakness_of_mode(directory, status, uid, sudo)
    if found is not None and is_above:  # others are often meant to write there, and with the sticky bit still can
        return found._replace(remedy=f"{sudo}chmod +t {shell_word(directory)}")
    if found is not None and is_sticky and status.st_mode & _OTHERS_WRITE:
        return found._replace(remedy=_ELSEWHERE)  # /tmp and the like
    return found


def _weakness_of_mode(directory: str, status: os.stat_result, uid: int, sudo: str) -> Weakness | None:
    if status.st_mode & _OTHERS_WRITE:
        return Weakness(directory, "can be written to by every user", f"{sudo}chmod o-w {shell_word(directory)}")
    if status.st_mode & _GROUP_WRITE:
        return _weakness_of_group(directory, status.st_gid, uid, sudo)
    return None


def _is_from_outside(owner: int) -> bool:
    """Whether this may be the owner of a bind mount from outside a container with a user name space of its own.

    There the host's root, and everybody without a number in the container, is shown as 65534. To ask for another owner
    of what lies above a project would make such containers unusable.
    """
    if owner != _OVERFLOW_USER:
        return False
    try:
        with open(_UID_MAP) as mapped:
            return mapped.read().split() != ["0", "0", str(2**32 - 1)]  # where all are mapped, it is just `nobody`
    except OSError:
        return False


def _weakness_of_group(directory: str, gid: int, uid: int, sudo: str) -> Weakness | None:
    """The group's bit stands for the users of an access list as well, if there is one."""
    try:
        has_list = _ACCESS_LIST in os.listxattr(directory, follow_symlinks=False)
    except OSError:
        has_list = False  # the file system has none
    word = shell_word(directory)
    if has_list:
        why = "can be written to by users in its access list"
        return Weakness(directory, why, f"{sudo}setfacl -b {word} && {sudo}chmod go-w {word}")
    if not is_private_group(gid, uid):
        return Weakness(directory, f"can be written to by group {_group_name(gid)}", f"{sudo}chmod g-w {word}")
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
