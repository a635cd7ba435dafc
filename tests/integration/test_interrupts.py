"""A foreground `up` that is asked to end: Compose hears it once, and nothing is left in memory."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.wait import wait_until

# The container ends on its own terms when asked once, and takes a moment: a second signal to Compose would kill it.
STACK = """
services:
  api:
    image: dso-test/busybox
    command: ["sh", "-c", "trap 'sleep 1; echo ended properly; exit 0' TERM; echo started; while :; do sleep 0.1; done"]
    environment: {KEY: "dso://shop/key", KEY_FILE: "dsofile://shop/key"}
"""


@pytest.fixture
def stack(home, project):
    home.run("init")
    home.run("secret", "set", "shop/key", input="value")
    project.compose_yaml(STACK)
    return project


def assert_ended_properly(stack):
    assert "ended properly" in stack.logs("api").out
    state = stack.inspect("api")["State"]
    assert (state["Running"], state["ExitCode"]) == (False, 0)
    assert stack.keepers() == []
    stack.dso("down")
    stack.assert_nothing_left()


def test_interrupt_on_a_terminal_ends_the_stack_gracefully(stack):
    with stack.terminal("docker", "dso", "up") as terminal:
        terminal.expect("started")
        terminal.control_c()
        code = terminal.wait()
        shown = terminal.shown.decode("utf-8", "replace")
    with stack.terminal("docker", "compose", "version") as terminal:
        assert terminal.wait() == 0
    assert code in (0, 130)  # Compose's own, which depends on its release
    assert "Gracefully stopping" in shown
    assert "Killed" not in shown
    assert "Traceback" not in shown
    assert_ended_properly(stack)


def plugin_processes(stack):
    """The processes of docker-dso, the boot loader's first."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[0].decode() == stack.home.plugin:
            found.append(int(pid))
    return sorted(found)


def start_in_background(stack):
    child = subprocess.Popen(
        ["docker", "dso", "up"],
        cwd=stack.directory,
        env=stack.home.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: stack.containers("api", running=True), "the container runs")
    wait_until(lambda: "started" in stack.logs("api").out, "the container has set its trap")
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("target", ["docker", "docker-dso", "group"])
def test_signal_without_a_terminal_ends_the_stack_gracefully(stack, target, number):
    child = start_in_background(stack)
    if target == "group":
        os.killpg(child.pid, number)
    else:
        os.kill(child.pid if target == "docker" else plugin_processes(stack)[0], number)
    child.wait(timeout=60)
    wait_until(lambda: not plugin_processes(stack), "docker-dso has ended")
    assert_ended_properly(stack)
