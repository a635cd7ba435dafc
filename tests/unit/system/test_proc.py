"""Children: their environment, their output, and signals that reach them exactly once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dso.errors import DockerNotFoundError
from dso.system import proc
from tests.support.processes import descendants
from tests.support.wait import wait_until

ROOT = str(Path(__file__).resolve().parents[3])


def test_child_gets_the_users_environment_without_our_own_variables(monkeypatch):
    own = (
        "DSO_MASTER_KEY",
        "DSO_PASSPHRASE_FILE",
        "DOCKER_CLI_PLUGIN_SOCKET",
        "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND",
    )
    before = dict(os.environ)
    for name in own:
        monkeypatch.setenv(name, "x")
    users = {"LD_LIBRARY_PATH": "/users/own", "LD_LIBRARY_PATH_ORIG": "other", "_PYI_USERS": "3", "USERS_OWN": "1"}
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    kept = {name: value for name, value in before.items() if name not in own}
    assert proc.child_environment({"EXTRA": "2"}) == kept | users | {"EXTRA": "2"}


def test_output_larger_than_a_pipe_is_collected_from_both_streams():
    script = "import sys; sys.stderr.write('e' * 300000); sys.stdout.write('o' * 300000); sys.exit(7)"
    finished = proc.run([sys.executable, "-c", script])
    assert (finished.code, len(finished.stdout), len(finished.stderr)) == (7, 300000, 300000)


def test_input_is_what_the_descriptor_holds_and_nothing_by_default():
    from dso.system.memory import memory_file

    assert proc.run(["cat"], stdin=memory_file("in", b"hello")).stdout == b"hello"
    assert proc.run(["cat"]).stdout == b""


def test_code_of_a_child_ended_by_a_signal_is_128_plus_its_number():
    assert proc.run(["sh", "-c", "kill -TERM $$"]).code == 128 + signal.SIGTERM


def test_missing_program_is_its_own_error():
    with pytest.raises(DockerNotFoundError):
        proc.run(["docker-that-is-not-there"])


# A stand-in for `docker`, whose child plays Compose and tells each signal it gets. It ends when its input does.
COMPOSE = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, lambda n, f: print("seen", int(n), flush=True))
print("ready", flush=True)
sys.stdin.read()
print("end", flush=True)
sys.exit(42)
"""
DOCKER = f"""
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {COMPOSE!r}])
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
sys.exit(child.wait())
"""
ATTACH = f"""
import sys
sys.path.insert(0, {ROOT!r})
from dso.system.proc import attach
sys.exit(attach([sys.executable, "-c", {DOCKER!r}]))
"""
# Compose as it is run without Docker between, with a program of its own that a signal is not for.
HELPED = COMPOSE.replace(
    'print("end"',
    'print("helper", helper.poll(), flush=True)\nhelper.kill()\nprint("end"',
).replace("import signal,", 'import subprocess\nhelper = subprocess.Popen(["sleep", "1000"])\nimport signal,')
ATTACH_DIRECTLY = f"""
import sys
sys.path.insert(0, {ROOT!r})
from dso.system.proc import attach
sys.exit(attach([sys.executable, "-c", {HELPED!r}], runs_another=False))
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
LATE = 0.5  # seconds in which a signal that arrives once too often would do so


class Attached:
    """A process in `attach`, in a process group of its own."""

    def __init__(self, program=ATTACH, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        assert self.line() == "ready"
        self.witness = next_witness(self.process.pid, 0)

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def wait_for_witness(self):
        """Wait for the one after a signal to the group."""
        self.witness = next_witness(self.process.pid, self.witness)

    def end(self):
        """What Compose saw besides what has been read."""
        time.sleep(LATE)
        self.process.stdin.close()
        said = self.process.stdout.read().split("\n")
        self.process.stdout.close()
        assert self.process.wait() == 42
        return said[: said.index("end")]


def next_witness(pid, former):
    """The process that a signal to the whole group would end; until it runs, that counts as one to us alone."""
    running = lambda: [one.pid for one in descendants(pid) if one.name == "cat" and one.pid != former]  # noqa: E731
    (found,) = wait_until(running, "the witness")
    return found


@pytest.fixture
def busy():
    """A machine on which others wait for a processor as well."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    yield
    for one in others:
        one.kill()
        one.wait()


@pytest.mark.usefixtures("busy")
def test_signal_to_the_whole_group_reaches_compose_exactly_once_on_a_busy_machine():
    test_each_signal_to_us_or_to_the_whole_group_reaches_compose_exactly_once(os.killpg, signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("whom", [os.kill, os.killpg])
def test_each_signal_to_us_or_to_the_whole_group_reaches_compose_exactly_once(whom, number):
    """However soon the next one follows."""
    attached = Attached()
    for _ in range(3):
        whom(attached.process.pid, number)
        assert attached.line() == f"seen {int(number)}"
        if whom is os.killpg:
            attached.wait_for_witness()
    assert attached.end() == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_reaches_a_child_that_runs_no_other_program_for_us(number):
    attached = Attached(ATTACH_DIRECTLY)
    attached.process.send_signal(number)
    assert attached.line() == f"seen {int(number)}"
    assert attached.end() == ["helper None"]


@pytest.mark.parametrize("presses", [1, 3])
def test_each_interrupt_of_the_terminal_reaches_compose_exactly_once(presses):
    import pexpect

    child = pexpect.spawn(sys.executable, ["-c", ATTACH], encoding="utf-8", timeout=20)
    child.expect("ready")
    witness = 0
    for _ in range(presses):
        witness = next_witness(child.pid, witness)
        child.sendintr()
        child.expect(f"seen {int(signal.SIGINT)}\r\n")
    time.sleep(LATE)
    child.sendeof()
    child.expect(r"(.*)end\r\n")
    assert "seen" not in child.match.group(1)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 42


def attached_to_docker(tmp_path):
    """A process in `attach`, and Docker's end of its plugin socket."""
    import socket

    address = str(tmp_path / "plugin.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        attached = Attached(DOCKER_CLI_PLUGIN_SOCKET=address)
        return attached, server.accept()[0]


def test_dockers_closed_plugin_socket_ends_compose_once(tmp_path):
    attached, connection = attached_to_docker(tmp_path)
    connection.close()
    assert attached.line() == f"seen {int(signal.SIGTERM)}"
    assert attached.end() == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("whom", [os.kill, os.killpg])
def test_docker_that_closes_its_socket_because_of_a_signal_is_no_second_one(whom, number, tmp_path):
    attached, connection = attached_to_docker(tmp_path)
    whom(attached.process.pid, number)
    assert attached.line() == f"seen {int(number)}"
    connection.close()
    assert attached.end() == []


def test_a_signal_after_docker_has_closed_its_socket_reaches_compose(tmp_path):
    attached, connection = attached_to_docker(tmp_path)
    connection.close()
    assert attached.line() == f"seen {int(signal.SIGTERM)}"
    attached.process.send_signal(signal.SIGTERM)
    assert attached.line() == f"seen {int(signal.SIGTERM)}"
    assert attached.end() == []
