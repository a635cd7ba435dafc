"""`docker dso up` is killed with SIGKILL, which nobody can prepare for, at moments spread over all it does."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.support.canary import Canary, assert_absent
from tests.support.process import started
from tests.support.processes import descendants, in_directory
from tests.support.stacks import FILES, SLEEP, containers, services, store, variable
from tests.support.wait import wait_until

MOMENTS = 7


def start(project):
    return started(
        ["docker", "dso", "up", "-d"],
        cwd=project.directory,
        env=project.home.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(up, victim):
    """SIGKILL for the processes that make up the victim, as far as they run yet or still."""
    plugins = [process.pid for process in descendants(up.pid) if process.name == "docker-dso"]
    pids = {"docker": [up.pid], "dso": plugins}
    if victim == "session":
        os.killpg(up.pid, signal.SIGKILL)
    for pid in pids.get(victim, []):
        os.kill(pid, signal.SIGKILL)


def up_again(project):
    """`up`; Compose, ended while it re-created containers, may not come through itself: then `down` clears the way.

    So it is without DSO too: four of 40 plain `docker compose up` that were killed (Compose 2.26).
    """
    again = project.dso("up", "-d", check=False)
    if again.returncode:
        assert again.err.splitlines()[-1].startswith("Error response from daemon: Conflict. The container name")
        project.dso("down")
        project.dso("up", "-d")


@pytest.mark.parametrize("victim", ["docker", "dso", "session"])
def test_up_that_is_killed_leaves_no_plaintext_and_the_next_one_works(victim, home, project, engine):
    """What is killed in the middle has a keeper, volumes and containers half made or half replaced."""
    canaries = [Canary.new()]
    store(home, key=canaries[-1].value)
    body = SLEEP + variable("KEY_FILE", "dsofile://v/key")
    project.compose_yaml(services(api=body, web=body))
    began = time.monotonic()
    with start(project) as up:
        up.wait(60)
    whole = time.monotonic() - began
    for moment in range(MOMENTS):
        if moment % 2:
            project.dso("down")  # from nothing; otherwise from what runs, with another value
        canaries.append(Canary.new())
        store(home, key=canaries[-1].value)
        with start(project) as up:
            time.sleep(whole * (moment + 0.5) / MOMENTS)
            kill(up, victim)
            up.wait(60)
        wait_until(lambda: not in_directory(project.directory), "what was started has ended")
        up_again(project)
        assert len(project.keepers()) == 1
        for container in containers(project).values():
            assert engine.docker("exec", container, "cat", f"{FILES}/v.key").stdout == canaries[-1].value
        assert len(containers(project)) == 2
    project.dso("down")
    project.assert_nothing_left()
    assert_absent(*canaries, engine=engine, project=project)
