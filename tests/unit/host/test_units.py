"""What systemd says of the units, and bringing them back to how they were."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.errors import ServiceError
from dso.host.units import UNITS, Unit, enable, restore, restoring, systemctl, unit_states

if TYPE_CHECKING:
    from tests.support.host import FakeHost

AGENT_SOCKET, VOLUME_SOCKET, SERVICE = UNITS
SHOWN = """Id=dso-agent.socket
LoadState=loaded
ActiveState=active
SubState=listening
UnitFileState=enabled
FragmentPath=/usr/local/lib/systemd/system/dso-agent.socket
DropInPaths=
NeedDaemonReload=no
Result=success

Id=dso-volume.socket
LoadState=not-found
ActiveState=inactive

Id=dso-agent.service
LoadState=loaded
ActiveState=failed
SubState=failed
UnitFileState=disabled
FragmentPath=/usr/local/lib/systemd/system/dso-agent.service
DropInPaths=/etc/systemd/system/dso-agent.service.d/a.conf /etc/systemd/system/dso-agent.service.d/b.conf
NeedDaemonReload=yes
Result=exit-code
"""


def states(active: str, enabled: str) -> dict[str, Unit]:
    """Units by letters, in the order of UNITS: `+` is, `-` is not, `!` has failed."""
    words = {"+": "active", "-": "inactive", "!": "failed"}
    return {
        name: Unit(name, "loaded", words[is_active], enabled="enabled" if is_enabled == "+" else "disabled")
        for name, is_active, is_enabled in zip(UNITS, active, enabled, strict=True)
    }


def test_units_are_read_as_systemctl_shows_them(host: FakeHost) -> None:
    host.says["systemctl show"] = (SHOWN, 0)
    found = unit_states(host)
    assert found[AGENT_SOCKET].is_active
    assert found[AGENT_SOCKET].is_enabled
    assert not found[VOLUME_SOCKET].is_there
    service = found[SERVICE]
    assert (service.is_active, service.is_enabled, service.needs_reload) == (False, False, True)
    assert (service.result, len(service.drop_ins)) == ("exit-code", 2)


def test_without_systemd_there_are_none_and_nothing_is_started(host: FakeHost) -> None:
    os.rmdir(host.path("/run/systemd/system"))
    assert not any(unit.is_there for unit in unit_states(host).values())
    assert host.calls == []


@pytest.mark.parametrize(
    ("before", "now", "calls"),
    [
        (("---", "---"), ("---", "---"), []),
        (
            ("---", "---"),
            ("+++", "+++"),
            [("stop", SERVICE, VOLUME_SOCKET, AGENT_SOCKET), ("reset-failed",), ("disable",)],
        ),
        (("---", "---"), ("++!", "---"), [("stop", SERVICE, VOLUME_SOCKET, AGENT_SOCKET), ("reset-failed",)]),
        (("+++", "+++"), ("---", "---"), [("enable", *UNITS), ("start", *UNITS)]),
        (("++-", "+--"), ("+++", "+++"), [("stop", SERVICE), ("reset-failed",), ("disable", VOLUME_SOCKET, SERVICE)]),
        (("--!", "+++"), ("---", "+++"), []),
    ],
)
def test_units_are_brought_back_to_how_they_were(
    before: tuple[str, str], now: tuple[str, str], calls: list[tuple[str, ...]]
) -> None:
    found = restoring(states(*before), states(*now))
    assert [tuple(each)[: len(call)] for each, call in zip(found, calls, strict=True)] == calls


def test_one_unit_that_cannot_be_brought_back_does_not_keep_the_others(host: FakeHost) -> None:
    host.says["systemctl stop"] = ("Access denied", 4)
    host.says["systemctl show"] = (SHOWN, 0)
    before = states("--+", "---")
    with pytest.raises(ServiceError, match=r"systemctl stop .*Access denied"):
        restore(host, before)
    assert f"systemctl disable {AGENT_SOCKET}" in host.calls
    assert f"systemctl start {SERVICE}" in host.calls


def test_a_failure_tells_the_last_lines_of_the_log(host: FakeHost) -> None:
    host.says["systemctl start"] = ("Job failed", 1)
    host.says["journalctl"] = ("-- Boot --\nError: dso.yaml is faulty\n", 0)
    with pytest.raises(ServiceError) as caught:
        systemctl(host, "start", SERVICE)
    assert caught.value.message == f"`systemctl start {SERVICE}` failed: Job failed\n  Error: dso.yaml is faulty"
    assert "doctor" in caught.value.hint


def test_sockets_start_before_the_agent(host: FakeHost) -> None:
    enable(host)
    assert host.calls == [
        f"systemctl enable {AGENT_SOCKET} {VOLUME_SOCKET} {SERVICE}",
        f"systemctl start {AGENT_SOCKET} {VOLUME_SOCKET}",
        f"systemctl start {SERVICE}",
    ]
