"""What `up` does once, whatever the number of services: counted with strace and by a proxy before the Engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dso.delivery.engine import FIRST_API
from tests.support.engine_proxy import EngineProxy
from tests.support.private_engine import PrivateEngine

COUNTS = (1, 20)

# The two questions with which every sweep begins: which keepers there are, and which volumes nobody uses. What it asks
# next is about the keepers and volumes it was told of, here those of other tests.
SWEEP = r"io\.dso\.role%3Dkeeper%22%5D|io\.dso\.role%3Dvolume%22%5D%2C%22dangling"


@pytest.fixture
def proxy():
    with EngineProxy() as found:
        yield found


@pytest.fixture
def make_stack(home, make_project):
    """A project with a number of services, each with a variable, a template and two files."""
    home.run("init")
    for name in ("shop/a", "shop/b", "shop/c"):
        home.run("secret", "set", name, input=name)

    def make(count):
        project = make_project()
        services = "".join(
            f"""
  s{number}:
    image: dso-test/busybox
    command: sleep 1000
    stop_signal: SIGKILL
    network_mode: none
    environment:
      A: dso://shop/a
      T: "x{{{{dso://shop/b}}}}y"
      F: dsofile://shop/c
    secrets: [s]
"""
            for number in range(count)
        )
        project.compose_yaml(f"services:{services}\nsecrets:\n  s: {{file: 'dsofile://shop/b'}}\n")
        return project

    return make


def trace(home, project, *words, env):
    """Run `docker dso WORDS` under strace; returns its successful execve and openat calls."""
    log = Path(project.directory).parent / f"{project.name}.strace"
    home.command(
        *("strace", "-f", "-qq", "-s", "500", "-e", "trace=execve,openat,open", "-o", str(log)),
        *("docker", "dso", *words),
        env=env,
        cwd=project.directory,
    )
    return [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "= -1 " not in line]


def puts(proxy):
    return [line for line in proxy.requests if re.fullmatch(r"PUT /containers/[^/]+/archive", line)]


def test_one_model_one_vault_one_delivery_whatever_the_number_of_services(home, make_stack, proxy):
    env = {"DOCKER_HOST": proxy.host}
    for count in COUNTS:
        project = make_stack(count)
        proxy.clear()
        calls = trace(home, project, "up", "-d", env=env)
        reads = [line for line in calls if "execve(" in line and re.search(r'docker-compose".*"config"', line)]
        assert len(reads) == 1
        assert len([line for line in calls if "open" in line and "vault.enc" in line]) == 1
        assert len(puts(proxy)) == 1
        home.run("down", cwd=project.directory, env=env)


def test_each_way_to_deliver_takes_the_requests_that_decision_0016_says(home, make_stack, images):
    counted = {}
    with PrivateEngine() as private:
        private.load(images.busybox)
        env = {"DOCKER_HOST": private.host}
        project = make_stack(1)

        def up(what):
            shown = home.run("up", "-d", "--debug", cwd=project.directory, env=env).err
            counted[what] = int(re.search(r"in (\d+) Engine requests", shown).group(1))

        try:
            up("a new keeper, and the image is not there")
            home.run("down", cwd=project.directory, env=env)
            up("a new keeper")
            up("an `up` that changes nothing")
            home.run("secret", "set", "shop/c", input="another")
            up("a changed value")
        finally:
            home.run("down", cwd=project.directory, env=env)
    page = Path("docs/decisions/0016-keeper-identity.md").read_text(encoding="utf-8")
    assert counted == {what: int(re.search(rf"\| {what} \| \d+ \| (\d+) \|", page).group(1)) for what in counted}


def test_nothing_to_change_costs_the_same_few_requests_whatever_the_number_of_services(home, make_stack, proxy):
    env = {"DOCKER_HOST": proxy.host}
    dso_requests, with_clean_up = {}, {}
    for count in COUNTS:
        project = make_stack(count)
        home.run("up", "-d", cwd=project.directory, env=env)
        before = project.containers()
        proxy.clear()
        shown = home.run("up", "-d", "--debug", cwd=project.directory, env=env).err
        assert puts(proxy) == []
        assert project.containers() == before
        dso_requests[count] = int(re.search(r"in (\d+) Engine requests", shown).group(1))
        # Compose asks in the newest version that both sides know, DSO in its first
        asked = [line for line in proxy.lines if f"/v{FIRST_API}/" in line]
        own = re.compile("|".join([SWEEP, project.name, *before, *project.keepers()]))
        with_clean_up[count] = len([line for line in asked if own.search(line)])
        home.run("down", cwd=project.directory, env=env)
    assert dso_requests == dict.fromkeys(COUNTS, 2)
    assert with_clean_up == dict.fromkeys(COUNTS, 6)
