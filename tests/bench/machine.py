"""What the figures depend on: the machine and the versions of what ran on it, without names or paths of its own."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from typing import TYPE_CHECKING

from tests.support.process import ROOT, run
from tests.support.release_binaries import VENV

if TYPE_CHECKING:
    from tests.bench.cases import Tools


class Activity:
    """What everything on the machine does from now on, apart from this process and its children."""

    def __init__(self) -> None:
        self._total, self._idle = _processor_ticks()
        self._own = _own_ticks()

    def share(self) -> float:
        """The share of the machine's processor time that others took, or that the hypervisor did not give."""
        total, idle = _processor_ticks()
        elapsed = total - self._total
        others = elapsed - (idle - self._idle) - (_own_ticks() - self._own)
        return max(others, 0) / elapsed if elapsed else 0.0


def _processor_ticks() -> tuple[int, int]:
    """Clock ticks of all processors since the start: all of them, and the idle ones."""
    with open("/proc/stat", encoding="ascii") as file:
        # user nice system idle iowait irq softirq steal; guests' time is in user's already
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def _own_ticks() -> float:
    times = os.times()
    return sum(times[:4]) * os.sysconf("SC_CLK_TCK")


def describe(tools: Tools) -> dict[str, str]:
    """Lines for the report: name to text."""
    version = json.loads(run([tools.docker, "version", "--format", "{{json .}}"]).stdout)
    compose = run([tools.docker, "compose", "version", "--short"]).out.strip()
    with open(os.path.join(ROOT, "VERSION"), encoding="ascii") as file:
        dso = file.read().strip()
    asked = "import platform, importlib.metadata as m; print(platform.python_version(), m.version('pyinstaller'))"
    python, pyinstaller = run([os.path.join(VENV, "bin", "python"), "-c", asked]).out.split()
    return {
        "Processor": f"{_first_value('/proc/cpuinfo', 'model name')}, {len(os.sched_getaffinity(0))} cores",
        "Memory": f"{int(_first_value('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.0f} GiB",
        "System": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "Temporary files": _file_system(tempfile.gettempdir()),
        "Docker": f"client {version['Client']['Version']}, Engine {version['Server']['Version']}, Compose {compose}",
        "DSO": f"{dso}, Python {python}, PyInstaller {pyinstaller}",
    }


def _first_value(path: str, name: str) -> str:
    """The value of the first `NAME : VALUE` line of a file of /proc."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return "unknown"


def _file_system(path: str) -> str:
    """The type of the file system a path is on: a one-file binary unpacks itself there."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.split()[2] == number:
                return line.split(" - ")[1].split()[0]
    return "unknown"
