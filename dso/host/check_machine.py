"""What of the machine itself matters: memory that is not swapped out, and the clock."""

from __future__ import annotations

from dso.host.check_docker import number
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from dso.host.installation import Installation
    from dso.host.machine import Host

NOSWAP = (6, 4)  # Linux
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
