"""A daemon's memory stays out of swap where the kernel allows, and out of other processes' reach everywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.process import ROOT, started

KIB = 1024


def python(code: str, *before: str) -> str:
    command = [*before, sys.executable, "-c", f"import sys; sys.path.insert(0, {ROOT!r})\n{code}"]
    ran = subprocess.run(command, capture_output=True, check=False, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


_LOCK = """
import ctypes, os, resource, sys
from dso.system.hardening import lock_memory
resource.setrlimit(resource.RLIMIT_MEMLOCK, ({limit}, {limit}))
{before}
reason = lock_memory()
grown = bytearray({grown}) # what a daemon does all day
with open("/proc/self/status") as status:
    locked = next(int(line.split()[1]) for line in status if line.startswith("VmLck"))
print(locked, reason, sep="|")
"""
_AS_NOBODY = "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)"


def lock(limit: int, before: str = "", grown: int = 50_000_000, *wrapper: str) -> tuple[int, str]:
    locked, reason = python(_LOCK.format(limit=limit, before=before, grown=grown), *wrapper).strip().split("|")
    return int(locked), reason


# Not everybody may raise a limit, root in a container included: so it is taken away as the code sees it.
_NO_LIMIT = (
    "import dso.system.hardening; dso.system.hardening._may_lock = lambda: False;"
    "resource.getrlimit = lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)"
)


@pytest.mark.parametrize("before", ["", _NO_LIMIT])
def test_memory_is_locked_by_root_and_where_there_is_no_limit(before):
    locked, reason = lock(64 * KIB, before)
    assert reason == "None"
    assert locked > 50_000_000 // KIB  # what came later too


@pytest.mark.parametrize("limit", [0, 64 * KIB, 8192 * KIB])
def test_a_limit_that_later_allocations_would_hit_means_no_lock_and_no_failure(limit):
    locked, reason = lock(limit, _AS_NOBODY, grown=200_000_000)
    assert locked == 0
    assert f"may lock {limit // KIB} KiB only" in reason
    assert "LimitMEMLOCK" in reason


def test_root_of_a_user_name_space_has_a_limit_too():
    locked, reason = lock(8192 * KIB, "", 200_000_000, "unshare", "--user", "--map-root-user")
    assert locked == 0
    assert "may lock" in reason


def test_root_without_the_capability_has_a_limit_too():
    drop = ["setpriv", "--bounding-set", "-ipc_lock"]
    assert "may lock" in lock(8192 * KIB, "", 200_000_000, *drop)[1]


def test_what_is_locked_is_what_is_used():
    """MCL_ONFAULT: reserved address space, such as the stacks of threads, takes no memory."""
    code = (
        "from dso.system.hardening import lock_memory; import mmap\n"
        "assert lock_memory() is None\n"
        "reserved = mmap.mmap(-1, 1 << 30)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    )
    assert int(python(code)) < 200_000


_HIDE = f"""
import ctypes, os
from dso.system.hardening import forbid_dumping
{_AS_NOBODY}
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # to change one's user does it too, to start as that user does not
print(flush=True)
sys.stdin.readline()
print(forbid_dumping(), flush=True)
sys.stdin.readline()
"""
_LOOK = f"""
import os
{_AS_NOBODY}
for name in ("environ", "maps", "mem"):
    try:
        os.close(os.open(f"/proc/{{sys.argv[1]}}/{{name}}", os.O_RDONLY))
        print(name)
    except PermissionError:
        pass
"""


def test_processes_of_the_same_user_cannot_look_in():
    def seen() -> list[str]:
        return subprocess.check_output([sys.executable, "-c", f"import sys{_LOOK}", str(hidden.pid)], text=True).split()

    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {ROOT!r})\n{_HIDE}"]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hidden:
        assert hidden.stdout.readline() == "\n"
        assert seen() == ["environ", "maps", "mem"]
        print(file=hidden.stdin, flush=True)
        assert hidden.stdout.readline() == "None\n"
        assert seen() == []
        hidden.communicate("\n")


def test_a_crash_leaves_no_core_file_whatever_the_limit(tmp_path):
    code = (
        "import os, resource; from dso.system.hardening import forbid_dumping\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        f"os.chdir({str(tmp_path)!r}); forbid_dumping(); os.abort()"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {ROOT!r})\n{code}"]
    ended = subprocess.run(command, check=False)
    assert ended.returncode == -signal.SIGABRT
    assert os.listdir(tmp_path) == []


def test_programs_we_start_are_not_affected():
    """A plugin decides for itself."""
    code = (
        "import subprocess; from dso.system.hardening import forbid_dumping, lock_memory\n"
        "assert forbid_dumping() is None and lock_memory() is None\n"
        "print(subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout)"
    )
    status = python(code)
    assert "VmLck:\t       0 kB" in status
