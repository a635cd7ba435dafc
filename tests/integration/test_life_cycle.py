"""From `up` to `down`: files stay through every restart, changes reach whom they concern, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import ExitStack

import pytest

from tests.support.process import PYTHON, started
from tests.support.processes import in_directory
from tests.support.stacks import BUSYBOX, FILES, SLEEP, containers, services, store, variable
from tests.support.wait import wait_until

KEY_FILE = variable("KEY_FILE", "dsofile://v/key")


@pytest.fixture
def stack(home, project):
    """A project with one service that has a file, up."""
    store(home, key="first")
    project.compose_yaml(services(api=SLEEP + KEY_FILE))
    project.dso("up", "-d")
    return project


def key_of(project, service="api"):
    return project.exec(service, "cat", f"{FILES}/v.key").out


def process_of(engine, container):
    return int(engine.docker("inspect", "--format", "{{.State.Pid}}", container).out)


def crash(engine, container):
    """End a container's process as a crash does: the Engine, not told, applies the restart policy."""
    before = process_of(engine, container)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: process_of(engine, container) not in (0, before), "the container is restarted")


def status_of(project):
    report = json.loads(project.dso("status", "--format", "json").stdout)
    return {entry["project"]: entry["state"] for entry in report["projects"]}.get(project.name)


# Being there.


def test_file_is_there_before_the_entrypoint(home, project, engine):
    store(home, key="there\n")
    reading = f'{BUSYBOX}\n    entrypoint: ["cat", "{FILES}/v.key"]\n    scale: 4' + KEY_FILE
    project.compose_yaml(services(api=reading))
    for _round in range(2):
        project.dso("up", "-d", "--force-recreate")
        made = project.containers("api")
        assert len(made) == 4
        assert [engine.docker("wait", each).out for each in made] == ["0\n"] * 4
        assert [engine.docker("logs", each).out for each in made] == ["there\n"] * 4


def test_every_kind_of_restart_keeps_files_and_variables(home, project, engine):
    store(home, key="kept\n", password="in a variable")
    reading = f'sh -c "cat {FILES}/v.key && echo $$PASSWORD && exec sleep 100000"'
    body = f"{BUSYBOX}\n    restart: always\n    command: {reading}\n    environment:"
    project.compose_yaml(services(api=f"{body} {{PASSWORD: dso://v/password, KEY_FILE: dsofile://v/key}}"))
    project.dso("up", "-d")
    container = project.container("api")
    restarts = [
        lambda: engine.docker("restart", container),
        lambda: project.compose("restart"),
        lambda: project.dso("compose", "restart"),
        lambda: crash(engine, container),
        lambda: [project.compose("stop"), project.compose("start")],
        lambda: [engine.docker("pause", container), engine.docker("unpause", container)],
    ]
    for restart in restarts:
        restart()
        assert key_of(project) == "kept\n"
    assert project.container("api") == container
    wait_until(
        lambda: project.logs("api").out == "kept\nin a variable\n" * len(restarts), "each start has read both at once"
    )


def test_keeper_that_crashes_takes_nothing_from_running_containers(stack, engine):
    (keeper,) = stack.keepers()
    before = containers(stack)
    crash(engine, keeper)
    engine.docker("restart", before["api"])
    assert key_of(stack) == "first"
    assert status_of(stack) == "lost"  # what services that did not run had is lost, and DSO cannot tell
    stack.dso("up", "-d")
    assert containers(stack) == before
    assert status_of(stack) == "delivered"


def test_keeper_that_somebody_ends_is_replaced_by_the_next_up(stack, engine):
    engine.docker("kill", *stack.keepers())
    assert status_of(stack) == "lost"
    before = containers(stack)
    stack.dso("up", "-d")
    assert containers(stack) == before
    assert status_of(stack) == "delivered"
    engine.docker("restart", before["api"])
    assert key_of(stack) == "first"


def test_lost_memory_is_noticed_and_delivered_again(home, project, engine):
    store(home, key="first")
    project.compose_yaml(services(api=SLEEP + KEY_FILE, other=SLEEP))
    project.dso("up", "-d")
    engine.docker("stop", project.container("api"))
    engine.docker("restart", *project.keepers())  # the last that held the memory, as when the Engine restarts
    assert status_of(project) == "lost"
    assert "LOST: run `docker dso up`" in project.dso("status").out
    engine.docker("start", project.container("api"))
    assert project.exec("api", "ls", "-A", FILES).out == ""
    project.dso("up", "-d")
    assert key_of(project) == "first"
    assert status_of(project) == "delivered"


# Changing.


def test_changed_secrets_recreate_just_the_services_they_touch(home, project):
    store(home, variable="1", template="1", file="1", granted="1", config="1", pinned="1")
    project.compose_yaml(
        services(
            variable=SLEEP + variable("X", "dso://v/variable"),
            template=SLEEP + variable("X", "<{{dso://v/template}}>"),
            file=SLEEP + variable("X", "dsofile://v/file"),
            granted=f"{SLEEP}\n    secrets: [granted]",
            config=f"{SLEEP}\n    configs: [config]",
            pinned=SLEEP + variable("X", "dso://v/pinned?version=1"),
            plain=SLEEP,
        )
        + 'secrets:\n  granted: {file: "dsofile://v/granted"}\n'
        + 'configs:\n  config: {content: "<{{dso://v/config}}>"}\n'
    )
    project.dso("up", "-d")
    former = containers(project)
    assert len(former) == 7
    project.dso("up", "-d")
    assert containers(project) == former
    for secret in ("variable", "template", "file", "granted", "config", "pinned"):
        store(home, **{secret: "2"})
        changed = {secret} - {"pinned"}
        difference = json.loads(project.dso("diff", "--format", "json").stdout)
        assert {entry["service"] for entry in difference} == changed
        project.dso("up", "-d")
        now = containers(project)
        assert {name for name in former if now[name] != former[name]} == changed
        former = now
    assert json.loads(project.dso("diff", "--format", "json").stdout) == []
    assert project.exec("template", "sh", "-c", "echo $X").out == "<2>\n"
    assert project.exec("file", "cat", f"{FILES}/v.file").out == "2"
    assert project.exec("granted", "cat", "/run/secrets/granted").out == "2"
    assert project.exec("config", "cat", "/config").out == "<2>"
    assert project.exec("pinned", "sh", "-c", "echo $X").out == "1\n"


def test_services_brought_up_later_leave_the_earlier_ones_alone(home, project, engine):
    store(home, key="first")
    project.compose_yaml(services(api=SLEEP + KEY_FILE, web=SLEEP + KEY_FILE))
    project.dso("up", "-d", "api")
    before = containers(project)
    assert list(before) == ["api"]
    project.dso("up", "-d")
    assert containers(project)["api"] == before["api"]
    assert len(project.keepers()) == 1
    for service in ("api", "web"):
        engine.docker("restart", project.container(service))
        assert key_of(project, service) == "first"


def test_service_that_is_renamed_or_removed_leaves_nothing_behind(stack, engine):
    stack.compose_yaml(services(web=SLEEP + KEY_FILE))
    stack.dso("up", "-d", "--remove-orphans")
    assert list(containers(stack)) == ["web"]
    engine.docker("restart", stack.container("web"))
    assert key_of(stack, "web") == "first"
    stack.compose_yaml(services(web=SLEEP))
    stack.dso("up", "-d")
    assert stack.exec("web", "ls", FILES, check=False).returncode != 0
    stack.dso("down")
    stack.assert_nothing_left()


def test_file_that_is_renamed_is_gone_under_its_old_name(stack, home):
    store(home, other="second")
    stack.compose_yaml(services(api=SLEEP + variable("KEY_FILE", "dsofile://v/other")))
    stack.dso("up", "-d")
    assert stack.exec("api", "ls", "-A", FILES).out == "v.other\n"


# Going.


def test_down_leaves_nothing(stack):
    assert len(stack.keepers()) == 1
    stack.dso("down")
    stack.assert_nothing_left()


@pytest.mark.parametrize("command", ["stop", "kill"])
def test_keeper_goes_when_the_last_container_stops(command, stack):
    stack.dso("compose", command)
    assert stack.keepers() == []
    stack.dso("up", "-d")
    assert key_of(stack) == "first"


def test_keeper_stays_while_another_service_runs(home, project):
    store(home, key="first")
    project.compose_yaml(services(api=SLEEP + KEY_FILE, web=SLEEP + KEY_FILE))
    project.dso("up", "-d")
    project.dso("compose", "stop", "api")
    project.compose("start", "api")
    assert key_of(project) == "first"


def test_next_status_sweeps_what_plain_compose_leaves(stack):
    stack.compose("down")
    assert len(stack.keepers()) == 1
    assert f"Removed: file secrets of {stack.name}" in stack.dso("status").out
    stack.assert_nothing_left()


def test_one_off_container_leaves_no_keeper(home, project):
    store(home, key="first")
    project.compose_yaml(services(api=SLEEP + KEY_FILE))
    assert project.dso("compose", "run", "--rm", "api", "cat", f"{FILES}/v.key").out == "first"
    assert project.keepers() == []


# Side by side.


def test_two_projects_keep_out_of_each_others_way(home, make_project, engine):
    store(home, key="first")
    one, two = make_project(), make_project()
    for project in (one, two):
        project.compose_yaml(services(api=SLEEP + KEY_FILE))
        project.dso("up", "-d")
    store(home, key="second")
    two.dso("up", "-d")
    assert (key_of(one), key_of(two)) == ("first", "second")
    two.dso("down")
    two.assert_nothing_left()
    engine.docker("restart", one.container("api"))
    assert key_of(one) == "first"


def test_simultaneous_ups_of_one_project_do_not_disturb_each_other(stack, home, engine):
    before = containers(stack)
    for value in ("second", "third"):
        store(home, key=value)
        environment = home.environment()
        command = ["docker", "dso", "up", "-d", "--no-recreate"]
        options = {"cwd": stack.directory, "env": environment, "stderr": subprocess.PIPE}
        with ExitStack() as all_of_them:
            racing = [all_of_them.enter_context(started(command, **options)) for _ in range(3)]
            said = [each.communicate(timeout=120)[1].decode() for each in racing]
            assert [each.returncode for each in racing] == [0, 0, 0], said
        assert containers(stack) == before
        assert len(stack.keepers()) == 1
        engine.docker("restart", before["api"])
        assert key_of(stack) == value


def test_up_and_down_at_the_same_time_end_in_a_state_that_up_repairs(stack, home):
    race = """
import subprocess
for words in (["down"], ["up", "-d"]) * 3:
    subprocess.Popen(["docker", "dso", *words], stderr=subprocess.DEVNULL)
"""
    stack.home.command(PYTHON, "-c", race, cwd=stack.directory)
    wait_until(lambda: not in_directory(stack.directory), "all six have ended", timeout=120)
    stack.dso("up", "-d")
    assert key_of(stack) == "first"
    stack.dso("down")
    stack.assert_nothing_left()
