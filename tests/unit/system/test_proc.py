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

ROOT = str(Path(__file__).resolve().parents[3])


def test_child_gets_the_users_environment_without_our_own_variables(monkeypatch):
    for name in ("_PYI_ARCHIVE_FILE", "_PYI_PARENT_PROCESS_LEVEL", "DSO_MASTER_KEY", "DSO_PASSPHRASE_FILE"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("DOCKER_CLI_PLUGIN_SOCKET", "@x")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp/_MEI")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/users/own")
    monkeypatch.setenv("USERS_OWN", "1")
    found = proc.child_environment({"EXTRA": "2"})
    assert found["LD_LIBRARY_PATH"] == "/users/own"
    assert (found["USERS_OWN"], found["EXTRA"]) == ("1", "2")
    assert not [name for name in found if name.startswith(("_PYI", "DSO_MASTER", "DSO_PASS", "DOCKER_CLI_PLUGIN"))]


def test_library_path_of_the_boot_loader_goes_when_the_user_had_none(monkeypatch):
    monkeypatch.setenv("_PYI_ARCHIVE_FILE", "/x")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp/_MEI")
    monkeypatch.delenv("LD_LIBRARY_PATH_ORIG", raising=False)
    assert "LD_LIBRARY_PATH" not in proc.child_environment()


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


# A stand-in for `docker`, whose child plays Compose and counts the signals it gets.
COMPOSE = """
import signal, sys, time
seen = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda n, f: seen.append(n))
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    time.sleep(0.01)
print("seen", *seen, flush=True)
sys.exit(42)
"""
DOCKER = f"""
import subprocess, sys
from signal import SIG_IGN, signal, SIGINT, SIGTERM
child = subprocess.Popen([sys.executable, "-c", {COMPOSE!r}, "1.0"])
signal(SIGINT, SIG_IGN); signal(SIGTERM, SIG_IGN)
sys.exit(child.wait())
"""
ATTACH = f"""
import sys
sys.frozen = len(sys.argv) > 1  # whether a boot loader stands before us
sys.path.insert(0, {ROOT!r})
from dso.system.proc import attach
sys.exit(attach([sys.executable, "-c", {DOCKER!r}]))
"""
# A stand-in for the one-file boot loader: it repeats to its child every signal it gets.
BOOT_LOADER = f"""
import os, signal, sys
child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", {ATTACH!r}, "frozen"])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda n, f: os.kill(child, n))
while True:
    try:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    except InterruptedError:
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [ATTACH, BOOT_LOADER])
def test_signal_sent_to_us_reaches_compose_exactly_once(program, number):
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.2)
    child.send_signal(number)
    assert child.stdout.readline() == f"seen {int(number)}\n"
    assert child.wait() == 42
    child.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_whole_group_reaches_compose_exactly_once(number):
    child = subprocess.Popen(
        [sys.executable, "-c", BOOT_LOADER], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.2)
    os.killpg(child.pid, number)
    assert child.stdout.readline() == f"seen {int(number)}\n"
    assert child.wait() == 42
    child.stdout.close()


@pytest.mark.parametrize("program", [ATTACH, BOOT_LOADER])
def test_interrupt_of_the_terminal_reaches_compose_exactly_once(program):
    import pexpect

    child = pexpect.spawn(sys.executable, ["-c", program], encoding="utf-8", timeout=20)
    child.expect("ready")
    time.sleep(0.2)
    child.sendintr()
    child.expect(r"seen ([0-9 ]*)\r\n")
    assert child.match.group(1).split() == [str(int(signal.SIGINT))]
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 42


def test_dockers_closed_plugin_socket_ends_compose_once(tmp_path):
    import socket

    address = str(tmp_path / "plugin.sock")
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    child = subprocess.Popen(
        [sys.executable, "-c", ATTACH],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DOCKER_CLI_PLUGIN_SOCKET": address},
    )
    connection, _ = server.accept()
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.2)
    connection.close()
    server.close()
    assert child.stdout.readline() == f"seen {int(signal.SIGTERM)}\n"
    assert child.wait() == 42
    child.stdout.close()
