"""An agent in a mount name space of its own mounts where PID 1 sees it, with one thread; all else stays inside."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

# In a name space of its own: try the driver, mount, see who sees what; a program started meanwhile is inside as well.
_PROGRAM = """
import json, os, subprocess, sys
from dso.agent.mounts import Mounts

directory = sys.argv[1]
mounts = Mounts(directory)
said = {"probe": mounts.probe(), "inside before": os.readlink("/proc/self/ns/mnt")}
path = directory + "/app"
os.mkdir(path)
mounts.mount(path)
table = open("/proc/1/mountinfo").read()
said["outside"] = f" {path} " in table
said["here"] = f" {path} " in open("/proc/self/mountinfo").read()
said["inside"] = os.readlink("/proc/self/ns/mnt")
child = ["readlink", "/proc/self/ns/mnt"]
said["child"] = subprocess.run(child, capture_output=True, check=True, text=True).stdout.strip()
try:
    mounts.space.run(os.rmdir, path)
except OSError as error:
    said["busy"] = error.strerror
said["fault"] = mounts.take_down(path)
said["left"] = [name for name in os.listdir(directory)]
print(json.dumps(said))
"""


@pytest.fixture
def directory() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="dso-space-", dir="/var/tmp")
    yield path
    os.rmdir(path)


def in_space(directory: str, *become: str) -> dict[str, object]:
    """What the program says, in a name space below the one of a PID 1 of the test's own."""
    first = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"]
    apart = [*become, "unshare", "--mount", "--propagation", "private"]
    # `; exit` keeps the shell, PID 1, where it is
    words = [*first, "sh", "-c", '"$@"; exit', "sh", *apart, sys.executable, "-c", _PROGRAM, directory]
    said: dict[str, object] = json.loads(run(words, cwd=ROOT).out)
    return said


def test_what_is_mounted_is_seen_outside_and_all_else_stays_inside(directory: str) -> None:
    said = in_space(directory)
    ours = said.pop("inside before")
    wanted = {"probe": "", "outside": True, "here": False, "inside": ours, "child": ours, "fault": "", "left": []}
    assert said == {**wanted, "busy": "Device or resource busy"}


def test_an_agent_that_may_not_leave_says_so(directory: str) -> None:
    said = in_space(directory, "setpriv", "--bounding-set=-sys_chroot", "--inh-caps=-sys_chroot")
    assert "may not leave it" in str(said["probe"])
    assert (said["outside"], said["here"]) == (False, True)
    assert (said["fault"], said["left"]) == ("", [])
