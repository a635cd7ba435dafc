"""Who sees a secret of a running stack and who does not: what docs/security.md says of variables and files."""

import json

import pytest

from tests.support.canary import Canary
from tests.support.stacks import FILES, SLEEP, services, store, variable
from tests.support.wait import wait_until


@pytest.fixture
def value():
    return Canary.new()


@pytest.fixture
def stack(home, project, value):
    """`api` has the value as a file, `web` another file and nothing of it, `env` the value as a variable."""
    store(home, key=value.value, other="other")
    project.compose_yaml(
        services(
            api=SLEEP + variable("KEY_FILE", "dsofile://v/key"),
            web=SLEEP + variable("OTHER_FILE", "dsofile://v/other"),
            env=SLEEP + variable("KEY", "dso://v/key"),
        )
    )
    project.dso("up", "-d")
    return project


def search(project, service, value):
    """Whether a service finds the value in its files, mounts included, or in its environment."""
    places = [f"/{name}" for name in project.exec(service, "ls", "/").out.split() if name not in ("proc", "sys", "dev")]
    found = project.exec(service, "grep", "-rlsF", value.text, *places, "/proc/1/environ", check=False)
    assert found.returncode in (0, 1)
    return found.out.split()


def test_another_service_sees_only_its_own_files(stack, value):
    assert stack.exec("web", "ls", "-A", FILES).out.split() == ["v.other"]
    assert search(stack, "web", value) == []
    assert search(stack, "api", value) == [f"{FILES}/v.key"]


def test_whoever_may_use_docker_can_read_a_file(stack, value, engine, images):
    volume = f"{stack.name}_dso_api:/mnt:ro"
    shown = engine.docker("run", "--rm", "--network", "none", "-v", volume, images.busybox, "cat", "/mnt/v.key")
    assert shown.stdout == value.value


def test_variable_is_in_inspect_commit_and_the_first_process_and_a_file_is_not(stack, value, engine):
    image = f"{stack.name}-committed"
    for service, seen in (("env", True), ("api", False)):
        container = stack.container(service)
        engine.docker("commit", container, image)
        try:
            committed = engine.docker("image", "inspect", image).out
        finally:
            engine.docker("rmi", "-f", image)
        inspected = stack.inspect(service)
        with open(f"/proc/{inspected['State']['Pid']}/environ", "rb") as environ:
            own = environ.read().decode()
        assert [value.text in text for text in (json.dumps(inspected), committed, own)] == [seen] * 3


def test_up_names_the_variables_that_others_can_see_each_time(stack):
    for _ in range(2):
        said = stack.dso("up", "-d").err
        assert "KEY" in said.split("`docker inspect`", 1)[1]
        assert "KEY_FILE" not in said


def test_file_outlives_a_container_that_ends_by_itself_until_the_next_command(home, project, value, engine):
    """DSO has no daemon that could notice; `status` does."""
    store(home, key=value.value)
    project.compose_yaml(services(job=SLEEP + variable("KEY_FILE", "dsofile://v/key")))
    project.dso("up", "-d")
    engine.docker("kill", project.container("job"))
    wait_until(lambda: project.containers(running=True) == [], "the container has ended")
    assert len(project.keepers()) == 1
    project.dso("status")
    assert project.keepers() == []
