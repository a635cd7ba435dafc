"""Four providers in one dso.yaml, frozen, and one stack with secrets of each: what one loses is felt by no other.

Backends have their production host names (tests/support/four_clouds.py). "Gone" is a backend that no longer
answers, or a plugin whose process was killed and whose program was removed; each of the four is so once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from dso.errors import ProviderFailedError
from tests.support.canary import Canary, assert_absent
from tests.support.cloud import CloudAgent
from tests.support.engine import Engine
from tests.support.four_clouds import TYPES, FourClouds
from tests.support.home import DsoHome
from tests.support.project import Project
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.private_engine import PrivateEngine
    from tests.support.process import Result

pytestmark = pytest.mark.timeout(600)

NAMES = {"vault": "vault-prod", "aws": "aws-east", "azure": "azure-main", "huawei": "huawei-prod"}
WHERE = {
    "vault": "https://vault.example.com:8200",
    "aws": "Secrets Manager in eu-central-1",
    "azure": ".vault.azure.net",
    "huawei": "cn-north-4",
}
PROXY = "HTTPS_PROXY"  # what to look at: the backends are reached through one
SERVICE = """    image: dso-test/busybox
    command: sleep 100000
    stop_signal: SIGKILL
    network_mode: none
    user: "1000:1000"
    environment:
"""


def secrets_of(*kinds: str) -> str:
    """The variables of a service: of each provider one with a value, and one with the path of a file."""
    lines = [
        f"      {kind.upper()}: dso://{NAMES[kind]}/shop-db#password\n"
        f"      {kind.upper()}_FILE: dsofile://{NAMES[kind]}/shop-tls#key\n"
        for kind in kinds
    ]
    return SERVICE + "".join(lines)


# One service that has secrets of all, and one for each.
STACK = f"services:\n  all:\n{secrets_of(*TYPES)}" + "".join(f"  {kind}:\n{secrets_of(kind)}" for kind in TYPES)


class World:
    """Everything that runs; it starts with all secrets stored, and no stack."""

    def __init__(self, clouds: FourClouds, private: PrivateEngine, home: DsoHome, project: Project) -> None:
        self.clouds, self.home, self.stack = clouds, home, project
        self.variables = {kind: Canary.new() for kind in TYPES}
        self.files = {kind: Canary.new() for kind in TYPES}
        self.rotations = itertools.count(1)
        self.told: dict[str, bytes] = {}
        self.agent = CloudAgent({}, engine=private, variant="frozen")
        for kind in TYPES:
            clouds.put(kind, "shop-db", user="shop", password=self.variables[kind].text)
            clouds.put(kind, "shop-tls", key=self.files[kind].text, certificate="public")
            self.agent.install_frozen(kind)
        providers = {
            NAMES[kind]: {"type": kind, "timeout": "30s", "cache_ttl": "1s", **clouds.settings(kind)} for kind in TYPES
        }
        self.agent.env = {**clouds.environment(), "TMPDIR": self.agent.path("tmp")}
        os.mkdir(self.agent.path("tmp"))
        self.agent.write_config(f"providers: {json.dumps(providers)}\n")

    def plugin(self, kind: str) -> str:
        """Its place."""
        return os.path.join(self.agent.plugin_dir, f"dso-provider-{kind}")

    def dso(self, *words: str, check: bool = True) -> Result:
        """`docker dso ...` in the project; what it prints is searched for values at the end."""
        done = self.stack.dso(*words, check=check, timeout=180)
        self.told[f"{len(self.told)}: {' '.join(words)}"] = done.stdout + done.stderr
        return done

    def up(self) -> list[str]:
        """Bring the stack up; the warnings."""
        return [line for line in self.dso("up", "-d").err.splitlines() if "warning: dso" in line]

    def rotate(self, kind: str) -> None:
        """Store another key, which is searched for as the former one is."""
        self.files[kind] = self.files[kind].around(after=b"-%d" % next(self.rotations))
        self.clouds.put(kind, "shop-tls", key=self.files[kind].text, certificate="public")

    def content(self, service: str, kind: str) -> str:
        """What the file of a provider holds in a service's container."""
        return self.stack.exec(service, "cat", f"/run/secrets/dso/{NAMES[kind]}.shop-tls.key").out

    def assert_served(self, service: str, *kinds: str) -> None:
        """A container has the variables and files of these providers as they should be now."""
        variables = dict(line.split("=", 1) for line in self.stack.inspect(service)["Config"]["Env"])
        assert {kind: variables[kind.upper()] for kind in kinds} == {kind: self.variables[kind].text for kind in kinds}
        assert {kind: self.content(service, kind) for kind in kinds} == {kind: self.files[kind].text for kind in kinds}

    def providers(self) -> dict[str, dict[str, Any]]:
        """What the agent says of each."""
        return {one["type"]: one for one in self.agent.get("/v1/status")["providers"]}

    def states(self) -> dict[str, str]:
        """The providers' states as `docker dso status` shows them, by type."""
        report = json.loads(self.dso("status", "--format", "json").stdout)
        return {one["type"]: one["state"] for one in report["agent"]["providers"]}

    def assert_all_is_well(self) -> None:
        """The stack has what it should have, without a warning, and the status names no fault."""
        assert self.up() == []
        self.assert_served("all", *TYPES)
        for kind in TYPES:
            self.assert_served(kind, kind)
        assert self.states() == dict.fromkeys(TYPES, "running")
        assert [one["error"] for one in self.providers().values()] == [""] * len(TYPES)

    def is_stale(self, kind: str) -> bool:
        """Whether the agent has a value of a provider that it could not renew."""
        known = self.agent.get("/v1/secrets")["cached"]
        return any(one["stale"] for one in known if one["provider"] == NAMES[kind])

    @contextlib.contextmanager
    def without_plugin(self, kind: str) -> Iterator[None]:
        """One plugin's process is killed, its program gone; afterwards the program is there again."""
        pid = self.providers()[kind]["pid"]
        os.unlink(self.plugin(kind))
        os.kill(pid, signal.SIGKILL)
        try:
            wait_until(lambda: self.providers()[kind]["code"] == "plugin_missing", "the agent notices", timeout=60)
            yield
        finally:
            self.agent.install_frozen(kind)


@pytest.fixture
def world(everything: World) -> World:
    """The stack runs, and nothing is wrong, whatever the test before has left."""
    assert_recovers(everything)
    return everything


@pytest.fixture(scope="module")
def everything(private: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("four")
    engine = Engine({"DOCKER_HOST": private.host})
    home = DsoHome(str(directory / "home"), "frozen", engine.env)
    project = Project(str(directory / f"dsotest{os.urandom(4).hex()}"), home, engine)
    project.compose_yaml(STACK)
    with FourClouds() as clouds:
        made = World(clouds, private, home, project)
        with made.agent:
            made.agent.serve(home)
            try:
                yield made
            finally:
                project.remove()


def row_of(table: str, kind: str) -> tuple[str, str, str, str]:
    """What a table of `docker dso status` says of a provider: name, type, state, error."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"{NAMES[kind]}   ")]
    name, type_, state, error = line.split(None, 3)
    return name, type_, state, error


def test_up_gives_one_stack_variables_and_files_of_all_four(world: World) -> None:
    told = world.dso("up", "-d").err
    assert told.startswith("[DSO] Running in CLOUD mode")
    world.assert_all_is_well()
    table = world.dso("status").out
    for kind in TYPES:
        assert row_of(table, kind) == (NAMES[kind], kind, "running", "-")
        assert f"[DSO] Using {kind.upper()} provider plugin: {world.plugin(kind)}" in world.agent.log
    checked = world.home.command(*world.agent.command("--check"), env=world.agent.environment()).out
    assert [line for line in checked.splitlines() if line.endswith(": ok")] == [
        f"{NAMES[kind]} ({kind}): ok" for kind in TYPES
    ]


def test_a_plugin_that_is_killed_is_back_by_itself(world: World) -> None:
    before = world.providers()
    for kind in TYPES:
        os.kill(before[kind]["pid"], signal.SIGKILL)
    wait_until(
        lambda: all(one["restarts"] > before[kind]["restarts"] for kind, one in world.providers().items()),
        "every plugin to be started again, which takes longer each time",
        timeout=150,
    )
    assert os.listdir(world.agent.env["TMPDIR"]) == []  # they have left nothing
    assert_recovers(world)


@pytest.mark.parametrize("kind", ["azure", "huawei"])
def test_fifty_secrets_of_a_backend_without_a_call_for_many_are_asked_for_side_by_side(world: World, kind: str) -> None:
    cloud = world.clouds.azure if kind == "azure" else world.clouds.huawei
    for number in range(50):
        world.clouds.put(kind, f"many-{number}", value=number)
    cloud.clear()
    cloud.server.together = threading.Barrier(50, timeout=60)  # one alone would wait for ever
    try:
        found = world.agent.resolve(*(f"dso://{NAMES[kind]}/many-{number}#value" for number in range(50)))
    finally:
        cloud.server.together = None
    assert [one["value"] for one in found["resolved"]] == [str(number) for number in range(50)]
    assert len(cloud.requests()) == 50, "one request for each"


def assert_others_are_served(world: World, gone: str, pids: dict[str, int]) -> None:
    """What the others have is read anew and delivered, their containers restart, and their plugins went on."""
    synced = world.dso("sync", check=False)
    assert synced.returncode == ProviderFailedError.code
    assert [name for name in NAMES.values() if name in synced.err] == [NAMES[gone]]
    for kind in (kind for kind in TYPES if kind != gone):
        world.rotate(kind)
        assert "changed" in world.dso("sync", f"{NAMES[kind]}/shop-tls").out
        before = world.stack.container(kind)
        told = world.dso("up", "-d", kind).err
        assert NAMES[gone] not in told, "nothing of this service is that provider's"
        assert world.stack.container(kind) != before
        world.assert_served(kind, kind)
    wait_until(lambda: world.is_stale(gone), "the agent to find its values too old")
    warnings = world.up()
    assert warnings, "a value that could not be renewed was used"
    assert all(f"{NAMES[gone]}/" in line for line in warnings), warnings
    world.assert_served("all", *TYPES)
    for kind in TYPES:
        world.stack.engine.docker("restart", "-t", "0", world.stack.container(kind))
        world.assert_served(kind, kind)
    assert {kind: one["pid"] for kind, one in world.providers().items() if kind != gone} == pids


def assert_status_tells(world: World, gone: str, state: str, *words: str) -> None:
    """`status` shows one provider in this state, with these words in its message, and the others running."""
    table = world.dso("status").out
    for kind in TYPES:
        if kind != gone:
            assert row_of(table, kind) == (NAMES[kind], kind, "running", "-")
    name, type_, shown, error = row_of(table, gone)
    assert (name, type_, shown) == (NAMES[gone], gone, state)
    report = json.loads(world.dso("status", "--format", "json").stdout)["agent"]
    (one,) = [one for one in report["providers"] if one["name"] == NAMES[gone]]
    assert (one["type"], one["state"], one["error"]) == (gone, state, error)
    for word in words:
        assert word in error, error
    stale = {secret["provider"] for secret in report["secrets"] if secret["stale"]}
    assert stale == {NAMES[gone]}
    assert table.count("STALE") == len([one for one in report["secrets"] if one["stale"]])


def assert_unknown_secret_starts_nothing(world: World, gone: str) -> None:
    """What the agent has never had of that provider is an error that names it; containers stay as they are."""
    before = world.stack.containers(running=True)
    world.stack.compose_yaml(STACK.replace(f"{NAMES[gone]}/shop-db#password", f"{NAMES[gone]}/never-read#password"))
    try:
        refused = world.dso("up", "-d", check=False)
    finally:
        world.stack.compose_yaml(STACK)
    assert refused.returncode == ProviderFailedError.code, refused.err
    assert f"dso://{NAMES[gone]}/never-read#password" in refused.err
    assert "`docker dso status` shows the providers" in refused.err
    assert [name for name in NAMES.values() if f"//{name}/" in refused.err] == [NAMES[gone]]
    assert world.stack.containers(running=True) == before


def assert_recovers(world: World) -> None:
    """The next fetches succeed, with what is new by now."""
    wait_until(lambda: world.dso("sync", check=False).returncode == 0, "everything to be fetched again", timeout=150)
    world.assert_all_is_well()


@pytest.mark.parametrize("gone", TYPES)
def test_a_backend_that_is_gone_hinders_no_other_and_is_told(world: World, gone: str) -> None:
    pids = {kind: one["pid"] for kind, one in world.providers().items() if kind != gone}
    with world.clouds.without(gone):
        assert_others_are_served(world, gone, pids)
        assert_status_tells(world, gone, "failing", NAMES[gone], WHERE[gone], PROXY)
        assert_unknown_secret_starts_nothing(world, gone)
        world.rotate(gone)
    assert_recovers(world)


@pytest.mark.parametrize("gone", TYPES)
def test_a_plugin_that_is_gone_hinders_no_other_and_is_told(world: World, gone: str) -> None:
    pids = {kind: one["pid"] for kind, one in world.providers().items() if kind != gone}
    with world.without_plugin(gone):
        assert_others_are_served(world, gone, pids)
        remedy = f"install -D -m 0755 dso-provider-{gone} {world.plugin(gone)}"
        assert_status_tells(world, gone, "waiting", NAMES[gone], "no plugin", remedy)
        assert_unknown_secret_starts_nothing(world, gone)
        world.rotate(gone)
    assert_recovers(world)


def test_no_value_is_anywhere_but_where_it_belongs(world: World) -> None:
    """Through a loss and a return: no value in what anybody printed, and those of files on no disk either."""
    with world.clouds.without(TYPES[-1]):
        world.dso("sync", "--format", "json", check=False)
        world.dso("up", "-d", "--force-recreate", "--debug")
        world.dso("fetch", f"{NAMES[TYPES[0]]}/shop-tls")
    assert_recovers(world)
    outputs = {**world.told, "the agent's log": world.agent.log.encode()}
    assert_absent(
        *world.files.values(), engine=world.stack.engine, project=world.stack, home=world.home, outputs=outputs,
        places=[world.agent.directory],
    )  # fmt: skip
    printed = [name for name, text in outputs.items() for one in world.variables.values() if one.find(text)]
    assert printed == []
    state = [os.path.join(world.agent.state_dir, name) for name in os.listdir(world.agent.state_dir)]
    assert state, "the agent keeps which volume holds which references"
    for path in state:
        with open(path, "rb") as file:
            content = file.read()
        assert not any(one.find(content) for one in world.variables.values()), path
    world.dso("down")
    world.stack.assert_nothing_left()
    assert os.listdir(os.path.join(world.agent.runtime_dir, "volumes")) == []
