"""The key of fingerprints: random, made once, kept where only the agent reads it.

A fingerprint tells whether a secret has changed and nothing else to those without the key
(docs/decisions/0007). When the key is lost every fingerprint is another, and the next `up` makes containers anew.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from dso.errors import FileAccessError
from dso.system.files import write_new

KEY_BYTES = 32
_NAME = "mac.key"


def fingerprint_key(state_dir: str) -> bytes:
    """The key in `state_dir`, made now if there is none; the directory too (0700).

    Raises:
        FileAccessError: it cannot be read or written, is damaged, or others may read it.
    """
    path = os.path.join(state_dir, _NAME)
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        try:
            return _read(path)
        except FileNotFoundError:
            pass
        with suppress(FileExistsError):  # another agent was faster: its key is the key
            write_new(path, os.urandom(KEY_BYTES), 0o600)
        return _read(path)
    except OSError as error:
        raise FileAccessError(
            f"the key of fingerprints cannot be kept in {path}: {error.strerror}",
            hint="the agent needs a directory of its own that outlives it: `agent.state_dir` in dso.yaml",
        ) from error


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        about = os.fstat(descriptor)
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES or not stat.S_ISREG(about.st_mode):
        raise FileAccessError(
            f"{path} is damaged: it does not have {KEY_BYTES} bytes",
            hint=f"remove it (`rm {path}`): a new one is made, and the next `up` makes containers anew",
        )
    if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o077:
        raise FileAccessError(
            f"{path} can be read by others, or belongs to somebody else", hint=f"remove it (`rm {path}`) for a new one"
        )
    return key
