"""What systemd hands over is taken, what is not meant for us is left, and nothing of it reaches a child."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dso.errors import ConfigError
from dso.system import systemd
from dso.system.systemd import listen_sockets, logs_to_journal, notify, notify_reloading, watchdog_interval
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


@pytest.fixture(autouse=True)
def outside_systemd(monkeypatch):
    for variable in (*VARIABLES, "JOURNAL_STREAM"):
        monkeypatch.setenv(variable, "")  # so that what the code removes comes back as it was
        monkeypatch.delenv(variable)


# A service as systemd starts it: descriptors from 3 on, its own pid in the variables.
_SERVICE = f"""
import os, sys
sys.path.insert(0, {ROOT!r})
from dso.system.systemd import listen_sockets
names = [(name, each.getsockname(), each.get_inheritable()) for name, each in listen_sockets()]
print(names, sorted(name for name in os.environ if name.startswith("LISTEN")), listen_sockets())
"""

# ... and as one that starts another program, of the same executable, and hands on all it was given.
_PARENT = """
import os, subprocess, sys
os.environ["LISTEN_PID"] = str(os.getpid())
sys.exit(subprocess.run([sys.executable, "-c", {code!r}], close_fds=False).returncode)
"""


def service(sockets: list[socket.socket], code: str, **variables: str) -> str:
    """Run a service with these sockets from descriptor 3 on; `LISTEN_PID=self` is its own number."""

    def prepare() -> None:
        high = [fcntl.fcntl(each, fcntl.F_DUPFD, 50) for each in sockets]
        for index, descriptor in enumerate(high):
            os.dup2(descriptor, 3 + index, inheritable=True)
            os.close(descriptor)

    env = {"PATH": os.environ["PATH"], **variables}
    command = [sys.executable, "-c", code]
    if variables.get("LISTEN_PID") == "self":  # the number is only known in the child, which then becomes the service
        command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
    ran = subprocess.run(command, env=env, preexec_fn=prepare, close_fds=False, capture_output=True, check=True)
    return ran.stdout.decode().strip()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[str], socket.socket]]:
    made = []

    def listen(name: str) -> socket.socket:
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind(str(tmp_path / name))
        made[-1].listen()
        return made[-1]

    yield listen
    for each in made:
        each.close()


def test_sockets_come_with_their_names_and_never_reach_a_child(listening, tmp_path):
    sockets = [listening("a"), listening("b")]
    said = service(sockets, _SERVICE, LISTEN_PID="self", LISTEN_FDS="2", LISTEN_FDNAMES="api:volumes")
    named = [("api", str(tmp_path / "a"), False), ("volumes", str(tmp_path / "b"), False)]
    assert said == f"{named} [] []"


def test_without_names_sockets_are_unknown(listening, tmp_path):
    for names in ({}, {"LISTEN_FDNAMES": "only-one:of:three"}):
        said = service([listening("a" + str(len(names)))], _SERVICE, LISTEN_PID="self", LISTEN_FDS="1", **names)
        assert said == f"{[('unknown', str(tmp_path / ('a' + str(len(names)))), False)]} [] []"


@pytest.mark.parametrize("before", ["", "import sys; sys.frozen = True"])
def test_sockets_of_our_parent_are_not_ours(listening, before):
    """Whatever started us, those are its sockets, even if it is the same program."""
    code = _PARENT.format(code=before + _SERVICE)
    assert service([listening("a")], code, LISTEN_FDS="1", LISTEN_FDNAMES="api") == "[] [] []"


@pytest.mark.parametrize(("pid", "count"), [("1", "1"), ("", "1"), ("self", ""), ("self", "0"), ("self", "x")])
def test_what_is_not_for_us_is_left_alone_and_no_child_sees_it(listening, pid, count):
    said = service([listening("a")], _SERVICE, LISTEN_PID=pid, LISTEN_FDS=count)
    assert said == "[] [] []"


@pytest.mark.parametrize("kind", ["pipe", "connected", "closed"])
def test_a_descriptor_that_does_not_listen_is_an_error_that_names_it(kind, monkeypatch):
    ours, other = (os.pipe() if kind == "pipe" else tuple(each.detach() for each in socket.socketpair()))[:2]
    monkeypatch.setattr(systemd, "_FIRST_DESCRIPTOR", ours)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    if kind == "closed":
        os.close(ours)
    with pytest.raises(ConfigError, match=f"descriptor {ours}"):
        listen_sockets()
    if kind != "closed":
        os.close(ours)  # still ours to close: nothing closed it behind our back
    os.close(other)


# sd_notify


@pytest.fixture(params=["path", "abstract"])
def receiver(request, tmp_path, monkeypatch) -> Iterator[socket.socket]:
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name if request.param == "path" else "\0" + name)
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "path" else "@" + name)
        yield sock


def test_states_are_one_datagram(receiver):
    assert notify("READY=1", "STATUS=3 providers, 2 of them ready")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=3 providers, 2 of them ready"


def test_a_text_cannot_smuggle_in_another_state(receiver):
    assert notify("STATUS=so far\nMAINPID=1")
    assert receiver.recv(4096) == b"STATUS=so far MAINPID=1"


_SPEAKER = f"""
import os, sys
sys.path.insert(0, {ROOT!r})
from dso.system import systemd
print(os.getpid(), systemd.notify("READY=1"))
"""


@pytest.mark.parametrize("prefix", [[], ["setpriv", "--bounding-set", "-all", "--reuid=65534", "--clear-groups"]])
def test_it_speaks_for_itself_and_needs_no_capability_to(receiver, prefix):
    """systemd takes a message for that of the process the kernel says it came from (`NotifyAccess=main`)."""
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    reachable_by_all(receiver)
    speaking = [*prefix, sys.executable, "-c", _SPEAKER]
    with subprocess.Popen(speaking, stdout=subprocess.PIPE, text=True) as speaker:
        said, _ = speaker.communicate()
    assert said == f"{speaker.pid} True\n"
    message, (credentials,), _, _ = receiver.recvmsg(4096, 1024)
    assert message == b"READY=1"
    assert int.from_bytes(credentials[2][:4], sys.byteorder) == speaker.pid


def reachable_by_all(receiver: socket.socket) -> None:
    """systemd's own socket is: /run/systemd/notify has the mode 0777."""
    path = receiver.getsockname()
    if isinstance(path, bytes):  # abstract ones have no mode
        return
    os.chmod(path, 0o777)
    for directory in Path(path).parents:
        if directory.stat().st_uid == os.getuid() and directory.name.startswith(("pytest-", "popen-")):
            directory.chmod(0o755)
    Path(path).parent.chmod(0o755)


def test_reloading_tells_the_time_it_began(receiver):
    before = time.monotonic_ns() // 1000
    assert notify_reloading()
    state, clock = receiver.recv(4096).decode().split("\n")
    assert state == "RELOADING=1"
    assert before <= int(clock.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize(
    "address", ["", "relative", "@", "/nonexistent/socket", "/" + "x" * 200, "vsock:2:1234", "/tmp"]
)
def test_nobody_to_notify_is_no_error(address, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_a_systemd_that_reads_nothing_does_not_hang_the_service(receiver, monkeypatch):
    monkeypatch.setattr(systemd, "_SEND_TIMEOUT", 0.01)
    sent = 0
    while notify("WATCHDOG=1"):
        sent += 1
        assert sent < 100_000
    assert sent


def test_nothing_stays_open(receiver):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        notify("WATCHDOG=1")
    assert len(os.listdir("/proc/self/fd")) == before


# sd_watchdog_enabled


@pytest.mark.parametrize("whose", ["", "self"])
def test_watchdog_wants_a_sign_twice_in_its_time(whose, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if whose else "")
    assert watchdog_interval() == 15.0


@pytest.mark.parametrize("is_frozen", [False, True])
def test_watchdog_of_our_parent_is_not_ours(is_frozen, monkeypatch):
    monkeypatch.setattr(sys, "frozen", is_frozen, raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    assert watchdog_interval() is None


@pytest.mark.parametrize("usec", ["", "0", "-1", "soon", "1.5", "\u0663"])
def test_nobody_watches(usec, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    assert watchdog_interval() is None


# The journal


def test_the_journal_is_recognised_by_device_and_inode(tmp_path, monkeypatch):
    about = os.fstat(2)
    for stream, is_it in ((f"{about.st_dev}:{about.st_ino}", True), (f"{about.st_dev}:1", False), ("", False)):
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        assert logs_to_journal() is is_it
