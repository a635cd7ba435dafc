"""Programs where the machine forbids something: what to put in front of their words."""

from __future__ import annotations

import os

from tests.support.process import PYTHON

# Refuses memfd_create with EPERM from here on, as container runtimes with a strict profile do (seccomp(2)).
_WITHOUT_MEMORY_FILES = """
import ctypes, os, struct, sys
number = {"x86_64": 319, "aarch64": 279}[os.uname().machine]
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program):
    sys.exit("seccomp does not work here")
try:
    os.memfd_create("forbidden")
except PermissionError:
    os.execv(sys.argv[1], sys.argv[1:])
sys.exit("memory files are not forbidden")
"""

WITHOUT_MEMORY_FILES = [PYTHON, "-I", "-c", _WITHOUT_MEMORY_FILES]


def mounted(*commands: str, pids: bool = False) -> list[str]:
    """After shell commands, as root and with mounts of its own; `pids`: with process numbers of its own too."""
    enter = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if pids:
        enter += ["--pid", "--fork", "--mount-proc"]
    return [*enter, "sh", "-ec", "\n".join([*commands, 'exec "$@"']), "sh"]
