"""What of the machine itself matters: memory that is not swapped out, the clock, what crashed programs have left."""

from __future__ import annotations

import os
import stat

from dso.host.check_docker import number
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from dso.host.installation import Installation
    from dso.host.machine import Host

NOSWAP = (6, 4)  # Linux
_UNPACKED = "_MEI"  # the boot loader's directory of a running one-file program
_OLD = 600.0  # seconds: a program that starts has its libraries mapped by then
_DAY = 86400.0


def swap(host: Host, info: Mapping[str, Any]) -> list[Finding]:
    """Whether file secrets can end up in swap: the kernel is the Engine's."""
    kernel = str(info.get("KernelVersion") or "")
    if not kernel:
        return []
    rootless = any("rootless" in str(option) for option in info.get("SecurityOptions") or [])
    if number(kernel) >= NOSWAP and not rootless:
        return [Finding("swap", OK, f"Linux {kernel.partition('-')[0]} keeps file secrets out of swap (noswap)")]
    cause = (
        "a rootless Engine may not mount with noswap" if rootless else f"noswap came with Linux 6.4, this is {kernel}"
    )
    if len((host.read("/proc/swaps") or b"").splitlines()) <= 1:
        return [Finding("swap", OK, f"file secrets are never swapped out: there is no swap ({cause})")]
    remedy = "encrypt the swap, or turn it off: swapoff -a, and remove it from /etc/fstab"
    return [Finding("swap", WARNING, "file secrets, kept in memory, can be swapped out to a disk", cause, remedy)]


def clock(host: Host, installation: Installation, now: float) -> list[Finding]:
    """Whether the clock can be right; tokens and signed requests of the clouds depend on it."""
    for path in (f"{installation.home}/manifest", "/etc/dso/dso.yaml", "/etc/machine-id"):
        status = host.status(path)
        if status and status.st_mtime > now + _DAY:
            return [
                Finding(
                    "clock",
                    ERROR,
                    "the clock is behind",
                    f"{path} is from a time still to come; clouds refuse requests with a wrong date",
                    "sudo timedatectl set-ntp true, or: sudo date --set TIME",
                )
            ]
    finished = host.run(["timedatectl", "show", "--property=NTPSynchronized", "--property=NTP"])
    shown = dict(line.partition("=")[::2] for line in finished.stdout.decode("utf-8", "replace").splitlines())
    if shown.get("NTPSynchronized") == "yes":
        return [Finding("clock", OK, "the clock is synchronised")]
    if "NTPSynchronized" not in shown:
        return [Finding("clock", NOTE, "whether the clock is right cannot be told here (no timedatectl)")]
    cause = "nothing synchronises it" if shown.get("NTP") != "yes" else "the time server has not been reached yet"
    cause += "; clouds refuse requests with a date that is minutes off"
    remedy = "sudo timedatectl set-ntp true (in a container or virtual machine its host may see to the clock)"
    return [Finding("clock", NOTE, "the clock is not known to be synchronised", cause, remedy)]


def unpacked(host: Host, now: float, directory: str = "/tmp") -> list[Finding]:  # noqa: S108  # where the boot loader has them
    """Directories that killed one-file programs of this user have left."""
    left = [name for name in _listed(host, directory) if name.startswith(_UNPACKED)]
    paths = [f"{directory}/{name}" for name in left if _is_left(host, f"{directory}/{name}", now)]
    used = _mapped(host) if paths else ""
    paths = [path for path in paths if path + "/" not in used]
    if not paths:
        return [Finding("leftovers", OK, f"no directories of killed programs in {directory}")]
    ours = [path for path in paths if _is_ours(host, path)]

    def fix() -> None:
        for path in ours:
            _remove(host, path)

    return [
        Finding(
            "leftovers",
            WARNING,
            f"{len(paths)} directories of programs that were killed: {', '.join(paths[:3])}"
            + ("..." if len(paths) > 3 else ""),  # noqa: PLR2004
            "a program that is killed with SIGKILL cannot remove what it has unpacked; no secret is ever in there",
            f"rm -r {' '.join(paths)}",
            fix if len(ours) == len(paths) else None,
        )
    ]


def _listed(host: Host, directory: str) -> list[str]:
    try:
        return sorted(os.listdir(host.path(directory)))
    except OSError:
        return []


def _is_left(host: Host, path: str, now: float) -> bool:
    status = host.status(path)
    return (
        status is not None
        and stat.S_ISDIR(status.st_mode)
        and status.st_uid == host.uid
        and now - status.st_mtime > _OLD
    )


def _mapped(host: Host) -> str:
    """The files that running programs have mapped, as far as this user may see them."""
    pids = [name for name in _listed(host, "/proc") if name.isdigit()]
    return "\n".join((host.read(f"/proc/{pid}/maps") or b"").decode("utf-8", "replace") for pid in pids)


def _is_ours(host: Host, path: str) -> bool:
    """Whether DSO has unpacked it: other programs are made with PyInstaller too."""
    names = _listed(host, path)
    return "base_library.zip" in names and all(
        name == "base_library.zip" or name.startswith("lib") or ".so" in name for name in names
    )


def _remove(host: Host, path: str) -> None:
    """Remove a directory and the files in it, and not what somebody may put in its place."""
    directory = os.open(host.path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in os.listdir(directory):
            os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)
    os.rmdir(host.path(path))
