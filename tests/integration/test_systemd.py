"""The frozen agent as a service: start, sockets, reload, watchdog, stop, and a stack that survives reboots."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from dso.paths import PLUGIN_USER
from tests.support.canary import Canary
from tests.support.process import ROOT
from tests.support.systemd import PLUGIN_DIR, Machine
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images

FIXTURES = os.path.join(ROOT, "tests", "fixtures", "systemd")
ENGINE = "docker.service"
SERVICE, API, VOLUMES = UNITS = ("dso-agent.service", "dso-agent.socket", "dso-volumes.socket")

# What programs have put into the directories for temporary files, without systemd's own.
TEMPORARY = "find /tmp /var/tmp /dev/shm -mindepth 1 -not -path '*/systemd-private-*' | sort"

SECRET, OTHER, TOKEN = Canary.new(), Canary.new(), Canary.new()

CONFIG = """version: 1
providers:
  static: {type: static, file: /etc/dso/static.secrets, token: "${STATIC_TOKEN}"}
secrets:
  - {name: shop/db, provider: static, path: shop/db}
"""

_SPEAK = """
my $agent = IO::Socket::UNIX->new(Peer => "/run/dso.sock") or die "connect: $!\\n";
local $/; print $agent <STDIN>; $agent->flush; print <$agent>;
"""


@pytest.fixture(scope="module")
def machine(images: Images) -> Iterator[Machine]:
    with Machine() as running:
        running.install()
        running.copy(os.path.join(FIXTURES, "dso-provider-static"), f"{PLUGIN_DIR}/dso-provider-static")
        for unit in UNITS:
            running.copy(os.path.join(FIXTURES, unit), f"/etc/systemd/system/{unit}", 0o644)
        running.write("/etc/dso/static.secrets", f"shop/db {SECRET.text}\nshop/api {OTHER.text}\n", 0o600)
        running.give("/etc/dso/static.secrets", PLUGIN_USER)
        running.write("/etc/dso/agent.env", f"STATIC_TOKEN={TOKEN.text}\n", 0o600)
        running.load(images.busybox)
        yield running


@pytest.fixture(autouse=True)
def started(machine: Machine) -> Iterator[None]:
    """The agent runs, and the journal shows no value afterwards, whatever the test did."""
    machine.write("/etc/dso/dso.yaml", CONFIG)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", *UNITS)
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "restart", API, VOLUMES, SERVICE)
    yield
    journal = machine.journal().encode()
    assert b"dso-agent" in journal
    found = [where for canary in (SECRET, OTHER, TOKEN) if (where := canary.find(journal))]
    assert not found, "the journal has a value"
    assert b"Traceback" not in journal


def ask(machine: Machine, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One request to the agent: the status, and the JSON of the answer."""
    content = json.dumps(body) if body is not None else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: dso\r\nConnection: close\r\nContent-Length: {len(content)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    said = machine.run("perl", "-MIO::Socket::UNIX", "-e", _SPEAK, input=head + content).out
    status, _, answer = said.partition("\r\n\r\n")
    return int(status.split(" ")[1]), json.loads(answer)


def value(machine: Machine, reference: str) -> str:
    status, answer = ask(machine, "POST", "/v1/resolve", {"values": [reference]})
    assert (status, answer["errors"]) == (200, [])
    return str(answer["resolved"][0]["value"])


def main_process(machine: Machine) -> int:
    """systemd's: the agent itself. No other process of the unit runs that program."""
    programs = {pid: machine.run("readlink", f"/proc/{pid}/exe").out.strip() for pid in machine.processes(SERVICE)}
    (pid,) = [pid for pid, program in programs.items() if program == "/usr/local/bin/dso-agent"]
    assert pid == int(machine.unit(SERVICE, "MainPID"))
    return pid


# Start and stop


def test_it_is_active_when_it_answers_and_says_how_it_is(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVICE)
    machine.run("systemctl", "start", SERVICE)
    assert machine.unit(SERVICE, "ActiveState") == "active"  # Type=notify: READY=1 came
    assert ask(machine, "GET", "/healthz")[0] == 200
    assert machine.unit(SERVICE, "StatusText")
    assert main_process(machine)


def test_its_configuration_is_faulty_so_it_never_becomes_active(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVICE)
    machine.write("/etc/dso/dso.yaml", "version: 1\nprovider: {}\n")
    try:
        assert machine.run("systemctl", "start", SERVICE, check=False).returncode != 0
        assert "provider" in machine.journal(SERVICE)
        assert machine.unit(SERVICE, "ExecMainStatus") == "44"
    finally:
        machine.run("systemctl", "stop", *UNITS)


def test_stop_is_clean_and_leaves_nothing(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVICE)
    before = machine.shell(TEMPORARY).out
    machine.run("systemctl", "start", SERVICE)
    assert value(machine, "dso://shop/db") == SECRET.text
    machine.run("systemctl", "stop", SERVICE)
    assert machine.unit(SERVICE, "Result") == "success"
    assert (machine.unit(SERVICE, "ExecMainCode"), machine.unit(SERVICE, "ExecMainStatus")) == ("1", "0")  # exited, 0
    assert machine.shell("pgrep dso- 2>&-", check=False).out == ""
    assert machine.shell(TEMPORARY).out == before
    # systemd owns the sockets, so that the Engine never finds one that nobody answers
    machine.shell("test -S /run/dso.sock && test -S /run/docker/plugins/dso.sock")


def test_children_get_neither_sockets_nor_systemds_variables(machine: Machine) -> None:
    assert value(machine, "dso://shop/db") == SECRET.text
    (plugin,) = [
        pid
        for pid in machine.processes(SERVICE)
        if "dso-provider-static" in machine.run("cat", f"/proc/{pid}/cmdline").out.replace("\0", " ")
    ]
    environ = machine.run("cat", f"/proc/{plugin}/environ").out
    assert not {name.split("=")[0] for name in environ.split("\0")} & {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"}
    assert "STATIC_TOKEN" not in environ
    opened = machine.shell(f"ls -l /proc/{plugin}/fd").out
    assert opened.count(" -> ") == opened.count("pipe:") + opened.count("/dev/null") + opened.count(PLUGIN_DIR)


def test_memory_is_locked_and_closed_to_others(machine: Machine) -> None:
    pid = main_process(machine)
    status = machine.run("cat", f"/proc/{pid}/status").out
    locked = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmLck"))
    assert locked > 1000, f"{locked} KiB; {machine.journal(SERVICE)}"
    assert machine.run("stat", "-c", "%U", f"/proc/{pid}/environ").out == "root\n"


# Sockets


@pytest.mark.parametrize("way", ["api", "volumes"])
def test_either_socket_starts_the_agent(machine: Machine, way: str) -> None:
    machine.run("systemctl", "stop", SERVICE)
    assert machine.unit(SERVICE, "ActiveState") == "inactive"
    if way == "api":
        assert value(machine, "dso://shop/db") == SECRET.text
    else:
        create_volume(machine, "by-socket")
        machine.run("docker", "volume", "rm", "by-socket")
    assert machine.unit(SERVICE, "ActiveState") == "active"


def test_requests_that_come_before_it_is_ready_wait_for_it(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVICE)
    machine.write("/run/systemd/system/dso-agent.service.d/slow.conf", "[Service]\nExecStartPre=/bin/sleep 2\n")
    machine.run("systemctl", "daemon-reload")
    try:
        assert value(machine, "dso://shop/db") == SECRET.text
    finally:
        machine.run("rm", "-r", "/run/systemd/system/dso-agent.service.d")


def test_the_socket_is_for_root_and_the_group(machine: Machine) -> None:
    assert machine.run("stat", "-c", "%U:%G %a", "/run/dso.sock").out == "root:dso 660\n"
    for user, groups in (("member", ["-G", "dso"]), ("stranger", [])):
        machine.run("useradd", "--create-home", *groups, user, check=False)
    speak = ["perl", "-MIO::Socket::UNIX", "-e", _SPEAK]
    words = "GET /healthz HTTP/1.1\r\nHost: dso\r\nConnection: close\r\n\r\n"
    assert " 200 OK" in machine.user("member", *speak, input=words).out
    refused = machine.user("stranger", *speak, input=words, check=False)
    assert "Permission denied" in refused.err


# Reload and watchdog


def test_reload_takes_a_new_configuration_and_keeps_the_process(machine: Machine) -> None:
    before = main_process(machine)
    machine.write("/etc/dso/dso.yaml", CONFIG + "  - {name: shop/other, provider: static, path: shop/api}\n")
    machine.run("systemctl", "reload", SERVICE)
    wait_until(lambda: "shop/other" in str(ask(machine, "GET", "/v1/secrets")), "the new entry")
    assert value(machine, "dso://shop/other") == OTHER.text
    assert main_process(machine) == before
    assert machine.unit(SERVICE, "ActiveState") == "active"


def test_reload_of_a_broken_configuration_changes_nothing_and_is_logged(machine: Machine) -> None:
    before = main_process(machine)
    since = len(machine.journal(SERVICE))
    machine.write("/etc/dso/dso.yaml", CONFIG + "secret: []\n")
    machine.run("systemctl", "reload", SERVICE)
    wait_until(lambda: "/etc/dso/dso.yaml" in machine.journal(SERVICE)[since:], "a word on the broken file")
    assert value(machine, "dso://shop/db") == SECRET.text
    assert main_process(machine) == before
    assert machine.unit(SERVICE, "ActiveState") == "active"


def test_a_service_that_is_watched_stays_up(machine: Machine) -> None:
    first = machine.unit(SERVICE, "WatchdogTimestampMonotonic")
    restarts = machine.unit(SERVICE, "NRestarts")
    for _ in range(3):  # three signs of life, more than the time one is good for
        last = first
        wait_until(lambda: machine.unit(SERVICE, "WatchdogTimestampMonotonic") != last, "a sign of life")  # noqa: B023
        first = machine.unit(SERVICE, "WatchdogTimestampMonotonic")
    assert machine.unit(SERVICE, "NRestarts") == restarts


def test_an_agent_that_hangs_is_replaced_and_nothing_is_lost_under_a_container(machine: Machine) -> None:
    start_app(machine, "watched")
    try:
        before = main_process(machine)
        machine.run("kill", "-STOP", str(before))
        wait_until(lambda: machine.unit(SERVICE, "NRestarts") != "0", "a restart", timeout=60)
        machine.wait_for(SERVICE, "active")
        assert main_process(machine) != before
        assert content(machine, "watched") == SECRET.text
        assert value(machine, "dso://shop/db") == SECRET.text
        machine.run("docker", "restart", "-t", "0", "watched")
        assert content(machine, "watched") == SECRET.text
    finally:
        remove_app(machine, "watched")


def test_an_agent_killed_outright_is_replaced(machine: Machine) -> None:
    start_app(machine, "killed")
    try:
        for _ in range(2):
            victim = main_process(machine)
            machine.run("kill", "-KILL", str(victim))
            wait_until(lambda: machine.unit(SERVICE, "MainPID") not in ("0", str(victim)), "another one")  # noqa: B023
            machine.wait_for(SERVICE, "active")
            assert content(machine, "killed") == SECRET.text
            assert value(machine, "dso://shop/db") == SECRET.text
    finally:
        remove_app(machine, "killed")


# Stacks


def create_volume(machine: Machine, name: str) -> None:
    spec = json.dumps({"files": [{"name": "db", "template": "dso://shop/db", "mode": 0o400}]})
    machine.run("docker", "volume", "create", "-d", "dso", "-o", f"spec={spec}", name)


def start_app(machine: Machine, name: str) -> None:
    create_volume(machine, name)
    words = ["--name", name, "--restart", "always", "--stop-signal", "KILL", "-v", f"{name}:/run/secrets/dso:ro"]
    words += ["--tmpfs", "/seen"]  # which each start begins with an empty one of
    note = "cat /run/secrets/dso/db >/seen/first && mv /seen/first /seen/at-start; sleep inf"
    machine.run("docker", "run", "-d", *words, "dso-test/busybox", "sh", "-c", note)
    assert content(machine, name) == SECRET.text


def remove_app(machine: Machine, name: str) -> None:
    machine.run("docker", "rm", "-f", name, check=False)
    machine.run("docker", "volume", "rm", name, check=False)


def content(machine: Machine, name: str) -> str:
    """What the container sees now, and saw when it started."""
    now = machine.run("docker", "exec", name, "cat", "/run/secrets/dso/db").out
    first = "until cat /seen/at-start 2>&-; do sleep 0.1; done"
    assert machine.run("docker", "exec", name, "sh", "-c", first).out == now
    return now


def is_running(machine: Machine, name: str) -> bool:
    return machine.run("docker", "inspect", "-f", "{{.State.Running}}", name, check=False).out.strip() == "true"


def place_agent(machine: Machine, order: str) -> None:
    """Have the agent start before the Engine, as its unit says, or seconds after its sockets and after the Engine."""
    unit = f"/etc/systemd/system/{SERVICE}"
    machine.copy(os.path.join(FIXTURES, SERVICE), unit, 0o644)
    if order == "Engine first":
        late = "/^Before=docker/d; s|^ExecStart=|ExecStartPre=/bin/sleep 6\\nExecStart=|"
        machine.run("sed", "-i", late, unit)
    machine.run("systemctl", "daemon-reload")


@pytest.mark.parametrize(
    ("order", "end"), [("agent first", "reboot"), ("agent first", "power cut"), ("Engine first", "power cut")]
)
def test_a_stack_with_a_file_secret_comes_back_by_itself(machine: Machine, order: str, end: str) -> None:
    start_app(machine, "app")
    place_agent(machine, order)
    try:
        machine.reboot() if end == "reboot" else machine.power_cut()
        wait_until(lambda: is_running(machine, "app"), "the stack's return", timeout=120, interval=0.5)
        assert content(machine, "app") == SECRET.text
        assert machine.run("docker", "inspect", "-f", "{{.RestartCount}}", "app").out == "0\n"  # at the first try
        engine, agent = (int(machine.unit(unit, "ExecMainStartTimestampMonotonic")) for unit in (ENGINE, SERVICE))
        assert (agent > engine) is (order == "Engine first")
    finally:
        place_agent(machine, "agent first")
        remove_app(machine, "app")


def test_a_shutdown_unmounts_before_the_agent_ends(machine: Machine) -> None:
    """Otherwise the Engine waits for the agent until it gives up."""
    start_app(machine, "app")
    try:
        since = len(machine.journal(ENGINE, SERVICE))
        machine.reboot()
        journal = machine.journal(ENGINE, SERVICE)[since:]
        assert "Force shutdown" not in journal
        assert journal.index("volume.unmounted volume=app") < journal.index("Stopping dso-agent.service")
    finally:
        remove_app(machine, "app")


def test_a_changed_secret_is_there_after_a_reboot(machine: Machine) -> None:
    """Values are read anew: nothing of them was kept."""
    start_app(machine, "app")
    try:
        changed = Canary.new()
        machine.write("/etc/dso/static.secrets", f"shop/db {changed.text}\nshop/api {OTHER.text}\n", 0o600)
        machine.give("/etc/dso/static.secrets", PLUGIN_USER)
        machine.reboot()
        wait_until(lambda: is_running(machine, "app"), "the stack's return", timeout=120, interval=0.5)
        assert content(machine, "app") == changed.text
        kept = machine.run("cat", "/var/lib/dso/volumes.json").stdout
        assert not SECRET.find(kept)
        assert not changed.find(kept)
    finally:
        remove_app(machine, "app")
        machine.write("/etc/dso/static.secrets", f"shop/db {SECRET.text}\nshop/api {OTHER.text}\n", 0o600)
        machine.give("/etc/dso/static.secrets", PLUGIN_USER)
