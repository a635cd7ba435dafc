"""`docker dso up` in the foreground: the user's keys, signals and Compose's exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.process import PYTHON, started
from tests.support.processes import descendants, in_directory
from tests.support.stacks import BUSYBOX, FILES, services, store, variable
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Process
    from tests.support.project import Project

KEY_FILE = variable("KEY_FILE", "dsofile://v/key")
READY = f"echo ready $$(cat {FILES}/v.key); sleep 100000 & wait"
POLITE = f"{BUSYBOX.splitlines()[0]}\n    command: [sh, -c, 'trap \"echo bye; exit 0\" TERM; {READY}']{KEY_FILE}"
STOPPING = "Gracefully stopping"


@pytest.fixture
def stack(home, project):
    store(home, key="value")
    project.compose_yaml(services(api=POLITE))
    return project


# Keys and signals, with a Compose that writes down what reaches it. (The real one now and then takes a single
# signal for two, more often on a busy machine: it listens for it in two places.)

RECORDER = f"""#!{PYTHON} -IS
import json, os, signal, sys, time
if "up" not in sys.argv:
    os.execv({{real!r}}, [{{real!r}}, *sys.argv[1:]])
waited_for = {{{{signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}}}}
signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
print("ready", flush=True)
received, patience = [], 60
while (found := signal.sigtimedwait(waited_for, patience)) is not None:
    received.append(found.si_signo)
    time.sleep(0.3)  # `docker` 28 dies of a second signal that follows the first at once
    print("received", len(received), flush=True)
    patience = 1.5  # a copy may be late
with open({{log!r}}, "w") as stream:
    json.dump(received, stream)
"""


class Recorded(NamedTuple):
    """A stack whose `up` only notes signals."""

    project: Project
    log: str

    def signals(self) -> list[int]:
        """What reached Compose, once it has ended."""
        found: list[int] = json.loads(wait_until(lambda: _text(self.log), "Compose's end"))
        return found


def _text(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


@pytest.fixture
def recorded(stack, home):
    listed = json.loads(home.command("docker", "info", "--format", "{{json .ClientInfo.Plugins}}").stdout)
    (real,) = [plugin["Path"] for plugin in listed if plugin["Name"] == "compose"]
    log = os.path.join(home.path, "signals.json")
    plugin = os.path.join(os.path.dirname(home.plugin), "docker-compose")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(plugin)
    with open(plugin, "x", encoding="utf-8") as stream:
        stream.write(RECORDER.format(real=real, log=log))
    os.chmod(plugin, 0o755)
    return Recorded(stack, log)


@pytest.mark.parametrize("standalone", [False, True])
@pytest.mark.parametrize("presses", [1, 2])
def test_each_control_c_reaches_compose_exactly_once(presses, standalone, recorded, home):
    command = [home.plugin, "up"] if standalone else ["docker", "dso", "up"]
    for _attempt in range(3):  # what is forwarded twice is so only most of the time
        with recorded.project.terminal(*command) as terminal:
            terminal.expect("ready")
            for press in range(presses):
                terminal.control_c()
                terminal.expect(f"received {press + 1}")
            terminal.wait()
        assert recorded.signals() == [signal.SIGINT] * presses
        os.unlink(recorded.log)


def plugin(up: subprocess.Popen[bytes]) -> Process:
    """The process of docker-dso: the only one, with no other program of its between Docker and Compose."""
    (found,) = [process for process in descendants(up.pid) if process.name == "docker-dso"]
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("target", ["dso", "docker", "group"])
def test_signal_to_a_process_or_to_all_reaches_compose_once(target, number, recorded):
    with start(recorded.project, "docker", "dso", "up") as up:
        pids = {"dso": plugin(up).pid, "docker": up.pid}
        if target == "group":  # as `timeout` does
            os.killpg(up.pid, number)
        else:
            os.kill(pids[target], number)
        up.communicate(timeout=60)
    # `docker`, asked to end, closes the plugin's socket and leaves open by which signal
    assert recorded.signals() == [signal.SIGTERM if target == "docker" else number]


def test_each_of_several_signals_to_dso_reaches_compose(recorded):
    """However soon they follow: one more is no copy of the last."""
    sent = [signal.SIGTERM, signal.SIGTERM, signal.SIGHUP]
    with start(recorded.project, "docker", "dso", "up") as up:
        for count, number in enumerate(sent):
            os.kill(plugin(up).pid, number)
            received = b"received %d" % (count + 1)
            assert any(received in line for line in up.stdout or ())
        up.communicate(timeout=60)
    assert recorded.signals() == sent


# The same with the real one.


@contextlib.contextmanager
def start(project: Project, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Bring the stack up without a terminal; the `with` begins when it is."""
    with started(
        command,
        cwd=project.directory,
        env=project.home.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as up:
        if not any(b"ready" in line for line in up.stdout):
            raise AssertionError(up.communicate()[1].decode())
        yield up


def stopped_by_control_c(project: Project, *command: str) -> tuple[int, str]:
    """Bring the stack up on a terminal, press ^C, and return the exit code and what was shown."""
    with project.terminal(*command) as terminal:
        terminal.expect("ready")
        terminal.control_c()
        return terminal.wait(), terminal.shown.decode()


def test_control_c_stops_the_stack_and_takes_the_secrets_away(stack, home):
    stack.write("plain.yaml", services(api=POLITE.replace(KEY_FILE, "")))
    code, shown = stopped_by_control_c(stack, "docker", "compose", "-f", "plain.yaml", "up")
    assert shown.count(STOPPING) == 1
    stack.compose("down")
    for command in (["docker", "dso", "up"], [home.plugin, "up"]):
        ours, shown = stopped_by_control_c(stack, *command)
        assert ours == code
        assert shown.count(STOPPING) == 1
        assert stack.containers(running=True) == []
        assert stack.keepers() == []
        assert not in_directory(stack.directory)
    stack.dso("down")
    stack.assert_nothing_left()


@pytest.mark.parametrize("target", ["dso", "docker"])
def test_process_that_is_asked_to_end_stops_the_stack(target, stack):
    with start(stack, "docker", "dso", "up") as up:
        os.kill(up.pid if target == "docker" else plugin(up).pid, signal.SIGTERM)
        out, err = up.communicate(timeout=60)
    assert (out + err).decode().count(STOPPING) == 1
    wait_until(lambda: not in_directory(stack.directory), "nothing of it runs any more")
    assert stack.containers(running=True) == []
    assert stack.keepers() == []


def test_down_from_another_terminal_ends_a_foreground_up_and_leaves_nothing(stack):
    with start(stack, "docker", "dso", "up") as up:
        stack.dso("down")
        _, err = up.communicate(timeout=60)
        assert up.returncode == 0
    assert b"warning" not in err
    stack.assert_nothing_left()


def test_control_c_before_compose_has_started_ends_at_once(stack):
    os.mkfifo(stack.path("fifo.yaml"))  # nobody ever writes to it: `docker compose config` waits
    with stack.terminal("docker", "dso", "up", "-f", "fifo.yaml") as terminal:
        terminal.expect("LOCAL mode")
        terminal.control_c()
        assert terminal.wait() == 130
        assert b"Traceback" not in terminal.shown
    wait_until(lambda: not in_directory(stack.directory), "nothing of it runs any more")
    stack.assert_nothing_left()


# Exit codes.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--abort-on-container-exit"], None),
        (["--exit-code-from", "failing"], 42),
        (["--exit-code-from=failing", "--abort-on-container-exit", "waiting", "failing"], 42),
        (["-d", "--wait", "--wait-timeout", "20"], None),  # at 1 s Compose is of two minds
        (["--no-such-flag"], None),
        (["no-such-service"], None),
    ],
)
def test_exit_code_is_composes(words, expected, home, project):
    store(home, key="value")
    waiting = f"{BUSYBOX}\n    command: sleep 100000\n    healthcheck: {{test: 'false', interval: 1s, retries: 1}}"
    failing = f"{BUSYBOX}\n    command: sh -c 'sleep 0.5; exit 42'"
    project.compose_yaml(services(waiting=waiting, failing=failing))
    theirs = project.compose("up", *words, check=False)
    project.compose("down")
    project.compose_yaml(services(waiting=waiting + KEY_FILE, failing=failing + KEY_FILE))
    ours = project.dso("up", *words, check=False)
    assert theirs.returncode != 0
    assert ours.returncode == theirs.returncode
    assert expected in (None, ours.returncode)
    project.dso("down")
    project.assert_nothing_left()


def test_run_hands_on_standard_input_and_the_commands_exit_code(stack):
    stack.compose_yaml(services(api=BUSYBOX + KEY_FILE))
    command = ["sh", "-c", f"cat; cat {FILES}/v.key; exit 7"]
    done = stack.dso("compose", "run", "--rm", "-T", "api", *command, input=b"from outside, ", check=False)
    assert (done.returncode, done.stdout) == (7, b"from outside, value")


def test_run_has_the_users_terminal(stack):
    stack.compose_yaml(services(api=BUSYBOX + KEY_FILE))
    command = ["docker", "dso", "compose", "run", "--rm", "api", "sh", "-c", "tty; read line; echo [$$line]; exit 7"]
    with stack.terminal(*command) as terminal:
        terminal.expect("/dev/pts")
        terminal.line("typed")
        assert terminal.wait() == 7
    assert stack.keepers() == []
