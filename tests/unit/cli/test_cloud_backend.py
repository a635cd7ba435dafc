"""Cloud Mode without Docker: a stack resolved by an agent in three requests, and every way it can be refused."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from dso import paths
from dso.cli.cloud_backend import CloudBackend
from dso.cli.dry_run import planned
from dso.cli.stack import Stack, resolve_stack
from dso.compose.files import ProjectFiles
from dso.compose.model import Model
from dso.config.mode import CLOUD, Mode
from dso.errors import (
    AgentProtocolError,
    AgentUnavailableError,
    ConfigError,
    FileSecretsUnavailableError,
    ProviderFailedError,
    SecretFieldError,
    SecretForbiddenError,
    SecretNotFoundError,
    VolumeConflictError,
)
from dso.protocol.agent import Fault, ResolveRequest, ResolveResponse, SecretEntry, VolumeFile
from dso.protocol.state import ProviderInfo, SecretInfo, SecretList, VolumeDriverState
from dso.system.http import Response
from tests.support import listed
from tests.support.fake_agent import FakeAgent, answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

VALUES = {"prod/db": b'{"password": "canary-pw", "user": "ann"}', "tls": b"canary-key", "plain": b"canary-plain"}
SERVICES: dict[str, Any] = {
    "api": {
        "environment": {"URL": "x:{{dso://prod/db#password}}@", "KEY": "dsofile://tls"},
        "configs": [{"source": "c", "target": "/etc/c", "mode": 0o400}],
        "user": "5:6",
    },
    "db": {"environment": {"PLAIN": "1"}},
}
CONFIGS = {"c": {"content": "pw={{dso://plain}} key={{dsofile://tls}} $$1 {{ kept }}"}}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    with FakeAgent(tmp_path, VALUES) as found:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, found.socket)
        yield found


class Run:
    """One command's backend; `warnings` is what it said on the way, `traced` what it says with --debug."""

    def __init__(self, config: str | None = None, docker_args: tuple[str, ...] = ()) -> None:
        self.warnings: list[str] = []
        self.traced: list[str] = []
        mode = Mode(CLOUD, "test", config)
        self.backend = CloudBackend(mode, docker_args, self.warnings.append, self.traced.append)

    def resolve(self, services: Mapping[str, Any] = SERVICES, **top_level: Any) -> Stack:
        self.backend.open()
        model = Model({"name": "shop", "services": services, **top_level})
        return resolve_stack(model, self.backend.resolver(model, ProjectFiles((), ())), complete=self.backend.complete)


class FakeEngine:
    """Answers to VolumeCreate as told. A mock of dso.delivery.engine.Engine."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.created: list[tuple[str, str, Mapping[str, str], Mapping[str, str]]] = []
        self.removed: list[str] = []
        self.existing: list[dict[str, Any]] = []

    def create_volume(self, name: str, driver: str, options: Mapping[str, str], labels: Mapping[str, str]) -> Response:
        self.created.append((name, driver, options, labels))
        return self.answers.pop(0) if self.answers else Response(201, {}, b"{}")

    def containers(self, **_filters: object) -> list[dict[str, Any]]:
        return []

    def volumes(self, **_filters: object) -> list[dict[str, Any]]:
        return self.existing

    def remove_volume(self, name: str) -> bool:
        self.removed.append(name)
        return True


def refusal(message: str, status: int = 500) -> Response:
    return Response(status, {}, json.dumps({"message": message}).encode())


def test_three_requests_whatever_the_stack_and_no_value_of_a_file_comes_here(agent: FakeAgent) -> None:
    run = Run()
    stack = run.resolve(configs=CONFIGS)
    engine = FakeEngine()
    run.backend.deliver(engine, stack)  # type: ignore[arg-type]
    assert agent.asked() == ["GET /v1/secrets", "POST /v1/resolve", "PUT /v1/volumes"]
    asked = agent.requests[1].json()
    assert asked["values"] == ["dso://prod/db#password"]
    assert sorted(asked["checks"]) == ["dso://plain", "dsofile://tls"]
    assert {str(one): one_found.value for one, one_found in stack.found.items() if one_found.value is None} == {
        "dso://plain": None,
        "dsofile://tls": None,
    }


def test_no_connection_is_kept_while_compose_reads_its_files(agent: FakeAgent) -> None:
    """An agent that is started again, or closes idle connections, meanwhile: the next request connects anew."""
    agent.broken["/v1/secrets"] = answer(200, SecretList(agent.info, ()).to_json())  # and then the connection's end
    run = Run()
    stack = run.resolve(configs=CONFIGS)
    run.backend.deliver(FakeEngine(), stack)  # type: ignore[arg-type]
    assert agent.asked() == ["GET /v1/secrets", "POST /v1/resolve", "PUT /v1/volumes"]


def test_without_an_agent_the_other_mode_is_proposed_to_who_has_a_vault(
    agent: FakeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(paths.SOCKET_VARIABLE, str(tmp_path / "none.sock"))
    with pytest.raises(AgentUnavailableError) as caught:
        Run().resolve()
    assert "--mode=local" not in caught.value.hint
    (tmp_path / ".dso").mkdir()
    (tmp_path / ".dso" / "vault.enc").touch()
    with pytest.raises(AgentUnavailableError) as caught:
        Run().resolve()
    assert "--mode=local" in caught.value.hint


def test_variables_get_values_and_paths(agent: FakeAgent) -> None:
    (api,) = Run().resolve(configs=CONFIGS).services
    assert {name: value.reveal() for name, value in api.environment.items()} == {
        "URL": b"x:canary-pw@",
        "KEY": b"/run/secrets/dso/tls",
    }


def test_volumes_are_defined_by_templates_with_owner_and_mode_at_agent_and_engine(agent: FakeAgent) -> None:
    run = Run()
    engine = FakeEngine()
    run.backend.deliver(engine, run.resolve(configs=CONFIGS))  # type: ignore[arg-type]
    (spec,) = agent.volumes.values()
    assert list(agent.volumes) == ["shop_dso_api"]
    assert list(spec.files) == [
        VolumeFile("~configs/c", "pw={{dso://plain}} key=/run/secrets/dso/tls $1 {{ kept }}", 5, 6, 0o400),
        VolumeFile("tls", "dsofile://tls", 5, 6, 0o444),
    ]
    ((name, driver, options, labels),) = engine.created
    assert (name, driver) == ("shop_dso_api", "dso")
    assert json.loads(options["spec"]) == spec.to_json()
    assert labels == {"io.dso.role": "volume", "io.dso.project": "shop", "io.dso.service": "api"}


def test_no_value_is_in_labels_plans_or_definitions(agent: FakeAgent) -> None:
    run = Run()
    stack = run.resolve(configs=CONFIGS)
    engine = FakeEngine()
    run.backend.deliver(engine, stack)  # type: ignore[arg-type]
    shown = json.dumps([[service.labels for service in stack.services], planned(stack), engine.created])
    assert "canary" not in shown
    assert "canary" not in json.dumps([request.body.decode() for request in agent.requests])


def test_digest_changes_with_a_value_in_a_file_and_only_then(agent: FakeAgent) -> None:
    before = Run().resolve().services[0].labels
    assert Run().resolve().services[0].labels == before
    agent.values["tls"] = b"another"
    assert Run().resolve().services[0].labels[paths.LABEL_DIGEST] != before[paths.LABEL_DIGEST]


def test_stack_without_references_is_no_request_to_resolve(agent: FakeAgent) -> None:
    run = Run()
    stack = run.resolve({"db": {"environment": {"PLAIN": "1"}}})
    run.backend.deliver(FakeEngine(), stack)  # type: ignore[arg-type]
    assert stack.services == ()
    assert agent.asked() == ["GET /v1/secrets"]


def test_entries_of_the_agent_are_injected(agent: FakeAgent) -> None:
    agent.entries = [SecretInfo("prod/db", "v", "prod/db", mappings=(("password", "PW"),), services=("db",))]
    (db,) = Run().resolve({"db": {}}).services
    assert db.environment["PW"].reveal() == b"canary-pw"


def test_all_missing_secrets_are_in_one_error_with_their_places(agent: FakeAgent) -> None:
    services = {"api": {"environment": {"A": "dso://nope/a"}}, "db": {"environment": {"B": "dsofile://nope/b"}}}
    with pytest.raises(SecretNotFoundError) as caught:
        Run().resolve(services)
    assert "dso://nope/a (service api, variable A)" in caught.value.message
    assert "dsofile://nope/b (service db, file /run/secrets/dso/nope.b)" in caught.value.message
    assert "PUT /v1/volumes" not in agent.asked()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("permission_denied", SecretForbiddenError),
        ("plugin_crashed", ProviderFailedError),
        ("unknown_field", SecretFieldError),
    ],
)
def test_refusals_of_single_secrets_name_service_and_variable(
    agent: FakeAgent, code: str, expected: type[Exception]
) -> None:
    agent.faults["prod/db"] = Fault(code, "it is so")
    with pytest.raises(expected, match="service api, variable URL"):
        Run().resolve(configs=CONFIGS)


def test_stale_value_is_used_and_its_age_told(agent: FakeAgent) -> None:
    agent.ages["prod/db"] = 7300.0
    run = Run()
    assert run.resolve(configs=CONFIGS).services
    (warning,) = run.warnings
    assert "dso://prod/db#password" in warning
    assert "2 h old" in warning
    assert "canary" not in warning


def test_the_name_that_a_secret_has_in_its_backend_is_traced_where_it_is_another_one(agent: FakeAgent) -> None:
    agent.names["tls"] = "t-l-s"
    run = Run()
    assert run.resolve(configs=CONFIGS).services
    (traced,) = run.traced
    assert "dsofile://tls is the secret t-l-s in its backend" in traced
    assert run.warnings == []


@pytest.mark.parametrize("left_out", ["everything", "the value"])
def test_answer_that_lacks_what_was_asked_for_is_a_protocol_error(agent: FakeAgent, left_out: str) -> None:
    whole = agent.resolve(ResolveRequest(["dso://plain"])).resolved
    kept = [] if left_out == "everything" else [whole[0]._replace(value=None)]
    agent.answers["/v1/resolve"] = answer(200, ResolveResponse(kept, []).to_json())
    with pytest.raises(AgentProtocolError, match="dso://plain"):
        Run().resolve({"api": {"environment": {"A": "dso://plain"}}})


# Where files cannot be delivered


FILES_ONLY = {"api": {"environment": {"KEY": "dsofile://tls"}}}


def test_agent_without_a_driver_refuses_files_before_it_is_asked_to_resolve(agent: FakeAgent) -> None:
    agent.info = agent.info._replace(volume_driver=VolumeDriverState("", available=False, reason="it is not root"))
    with pytest.raises(FileSecretsUnavailableError, match="it is not root") as caught:
        Run().resolve(FILES_ONLY)
    assert "--mode=local" in caught.value.hint
    assert agent.asked() == ["GET /v1/secrets"]


def test_agent_without_a_driver_serves_variables(agent: FakeAgent) -> None:
    agent.info = agent.info._replace(volume_driver=VolumeDriverState("", available=False, reason="it is not root"))
    assert Run().resolve({"api": {"environment": {"A": "dso://plain"}}}).services


@pytest.mark.parametrize("host", ["ssh://root@prod", "tcp://10.0.0.1:2376", "tcp://127.0.0.1:2375"])
def test_remote_engine_refuses_files(agent: FakeAgent, host: str) -> None:
    with pytest.raises(FileSecretsUnavailableError, match=host):
        Run(docker_args=("-H", host)).resolve(FILES_ONLY)


@pytest.mark.parametrize(("host", "is_remote"), [("ssh://root@prod", True), ("unix:///var/run/docker.sock", False)])
def test_contexts_engine_is_looked_up(agent: FakeAgent, tmp_path: Path, host: str, is_remote: bool) -> None:
    digest = hashlib.sha256(b"prod").hexdigest()
    directory = tmp_path / ".docker" / "contexts" / "meta" / digest
    directory.mkdir(parents=True)
    (directory / "meta.json").write_text(json.dumps({"Name": "prod", "Endpoints": {"docker": {"Host": host}}}))
    run = Run(docker_args=("-c", "prod"))
    if is_remote:
        with pytest.raises(FileSecretsUnavailableError, match=host):
            run.resolve(FILES_ONLY)
    else:
        assert run.resolve(FILES_ONLY).services


def deliver(agent: FakeAgent, engine: FakeEngine) -> None:
    run = Run()
    run.backend.deliver(engine, run.resolve(FILES_ONLY))  # type: ignore[arg-type]


def test_engine_that_does_not_know_the_driver_says_what_is_missing(agent: FakeAgent) -> None:
    message = 'create shop_dso_api: error looking up volume plugin dso: plugin "dso" not found'
    with pytest.raises(FileSecretsUnavailableError, match="volume driver 'dso'"):
        deliver(agent, FakeEngine(refusal(message, 404)))


CONFLICT = refusal(
    "create shop_dso_api: driver 'local' already has volume 'shop_dso_api': volume name must be unique", 409
)


def test_volume_of_local_mode_makes_way(agent: FakeAgent) -> None:
    engine = FakeEngine(CONFLICT)
    engine.existing = [listed.volume("api")]
    deliver(agent, engine)
    assert engine.removed == ["shop_dso_api"]
    assert len(engine.created) == 2


def test_foreign_volume_is_left_alone(agent: FakeAgent) -> None:
    engine = FakeEngine(CONFLICT)
    engine.existing = [{"Name": "shop_dso_api", "Driver": "local", "Labels": None, "Options": None}]
    with pytest.raises(VolumeConflictError, match="shop_dso_api"):
        deliver(agent, engine)
    assert engine.removed == []


# A project's own dso.yaml


PROJECT = """\
version: 1
secrets:
  - name: mine
    provider: fake
    path: somewhere/else
    mappings: {password: PW}
    targets: {services: [db]}
"""


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "dso.yaml"
    path.write_text(text)
    return str(path)


def test_projects_entries_are_sent_and_injected(agent: FakeAgent, tmp_path: Path) -> None:
    agent.values["mine"] = b'{"password": "pw"}'
    services = {"db": {"environment": {"F": "dsofile://mine", "G": "dsofile://tls"}}}
    run = Run(config(tmp_path, PROJECT))
    stack = run.resolve(services)
    run.backend.deliver(FakeEngine(), stack)  # type: ignore[arg-type]
    entry = SecretEntry("mine", "fake", "somewhere/else")
    assert agent.requests[1].json()["secrets"] == [{"name": "mine", "provider": "fake", "path": "somewhere/else"}]
    assert list(agent.volumes["shop_dso_db"].secrets) == [entry]
    assert stack.services[0].environment["PW"].reveal() == b"pw"


def test_projects_entry_wins_over_the_agents_of_that_name(agent: FakeAgent, tmp_path: Path) -> None:
    agent.values["mine"] = b'{"password": "pw"}'
    agent.entries = [SecretInfo("mine", "v", "x", mappings=(("password", "OTHER"),), services=("db",))]
    (db,) = Run(config(tmp_path, PROJECT)).resolve({"db": {}}).services
    assert list(db.environment) == ["PW"]


PROVIDERS = """\
version: 1
providers:
  vault-x: {type: vault, address: https://v.example.com, auth: {method: token, token: "${UNSET}"}}
"""


def test_projects_providers_are_refused_by_the_agent_of_another_user(agent: FakeAgent, tmp_path: Path) -> None:
    agent.info = agent.info._replace(uid=os.getuid() + 1)
    with pytest.raises(ConfigError) as caught:
        Run(config(tmp_path, PROVIDERS)).resolve()
    assert "`providers:`" in caught.value.message
    assert paths.SYSTEM_CONFIG in caught.value.hint
    assert "dso-agent --config" in caught.value.hint


def test_projects_providers_have_to_be_the_agents(agent: FakeAgent, tmp_path: Path) -> None:
    agent.providers = [ProviderInfo("other", "vault", "ready")]
    with pytest.raises(ConfigError, match="vault-x") as caught:
        Run(config(tmp_path, PROVIDERS)).resolve()
    assert "other" in caught.value.hint
    agent.providers = [ProviderInfo("vault-x", "vault", "ready")]
    assert Run(config(tmp_path, PROVIDERS)).resolve(configs=CONFIGS).services


def test_socket_may_stand_in_the_projects_dso_yaml(
    agent: FakeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(paths.SOCKET_VARIABLE)
    assert Run(config(tmp_path, f"version: 1\nagent: {{socket: {agent.socket}}}\n")).resolve(configs=CONFIGS).services


def test_project_config_that_is_not_there_is_named(agent: FakeAgent, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml"):
        Run(str(tmp_path / "nope.yaml")).resolve()
