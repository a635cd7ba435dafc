"""Cloud Mode from the command line to the container: a real agent, a plugin, the Engine and Compose."""

from __future__ import annotations

import json

import pytest

from dso import paths
from dso.errors import DIFFERENCE_FOUND
from tests.support.canary import Canary
from tests.support.cloud import DRIVER, CloudAgent
from tests.support.engine import Engine, Images
from tests.support.engine_proxy import EngineProxy
from tests.support.wait import wait_until

INJECTED = """
secrets:
  - name: prod/mail
    provider: fake
    path: kv/mail
    mappings: {token: MAIL_TOKEN}
    targets: {services: [api], labels: {gets: mail}}
  - name: prod/cert
    provider: fake
    path: kv/cert
    inject: {type: file, path: /etc/tls/cert.pem, uid: 7, gid: 8, mode: "0440"}
    targets: {services: [api]}
"""
SERVICE = "image: dso-test/busybox\n    command: sleep 1000\n    stop_signal: SIGKILL\n    network_mode: none"
STACK = f"""
services:
  api:
    {SERVICE}
    user: "1000:1000"
    environment:
      PW: dso://kv/db#password
      URL: "x:{{{{dso://kv/db#password}}}}@db:{{{{dso://kv/db#port}}}}"
      KEY: dsofile://kv/key
    configs: [{{source: conf, target: /etc/app.conf, mode: 0400}}]
  web:
    {SERVICE}
    labels: {{gets: mail}}
  plain:
    {SERVICE}
configs:
  conf:
    content: "pw={{{{dso://kv/db#password}}}} key={{{{dsofile://kv/key}}}} $$1"
"""


@pytest.fixture(scope="module")
def engine(private):
    """The same for projects."""
    return Engine({"DOCKER_HOST": private.host})


@pytest.fixture(scope="module")
def images(engine):
    """Those of that Engine."""
    return Images()


@pytest.fixture
def canary():
    return Canary.new()


@pytest.fixture
def agent(private, home, canary):
    value = canary.value.decode()
    found = CloudAgent(
        {
            "kv/db": {"fields": {"password": value, "port": 5432}},
            "kv/key": {"text": "key-" + value},
            "kv/mail": {"fields": {"token": "mail-" + value}},
            "kv/cert": {"text": "cert-" + value},
        },
        INJECTED,
        engine=private,
    )
    with found:
        found.serve(home)
        yield found


@pytest.fixture
def stack(agent, project):
    project.compose_yaml(STACK)
    return project


def environment_of(project, service):
    return dict(line.split("=", 1) for line in project.inspect(service)["Config"]["Env"])


def test_variables_files_and_injected_secrets_reach_the_containers(stack, canary):
    value = canary.value.decode()
    told = stack.dso("up", "-d").err
    assert told.startswith("[DSO] Running in CLOUD mode (DSO_MODE)\n")
    api = environment_of(stack, "api")
    assert (api["PW"], api["URL"], api["MAIL_TOKEN"]) == (value, f"x:{value}@db:5432", f"mail-{value}")
    assert api["KEY"] == "/run/secrets/dso/kv.key"
    assert stack.exec("api", "cat", api["KEY"]).out == "key-" + value
    assert stack.exec("api", "cat", "/etc/app.conf").out == f"pw={value} key=/run/secrets/dso/kv.key $1"
    shown = stack.exec("api", "stat", "-c", "%u:%g %a", "/etc/app.conf", "/etc/tls/cert.pem").out.splitlines()
    assert shown == ["1000:1000 400", "7:8 440"]
    assert environment_of(stack, "web")["MAIL_TOKEN"] == f"mail-{value}"
    assert "MAIL_TOKEN" not in environment_of(stack, "plain")
    assert paths.LABEL_DIGEST not in stack.inspect("plain")["Config"]["Labels"]
    assert "visible to whoever may run `docker inspect`" in told
    assert "api: PW, URL, MAIL_TOKEN" in told


def test_three_requests_to_the_agent_and_one_batch_to_the_provider(stack, agent, home):
    with EngineProxy(agent.socket) as proxy:
        socket = proxy.host.removeprefix("unix://")
        stack.dso("up", "-d", env={paths.SOCKET_VARIABLE: socket})
        assert proxy.requests == ["GET /v1/secrets", "POST /v1/resolve", "PUT /v1/volumes"]
        proxy.clear()
        stack.dso("up", "-d", "web", env={paths.SOCKET_VARIABLE: socket})
        assert proxy.requests == ["GET /v1/secrets", "POST /v1/resolve"]
    assert len([call for call in agent.calls if call.startswith("get")]) == 1


def test_values_are_in_no_label_volume_definition_or_message(stack, engine, agent, canary):
    told = stack.dso("up", "-d", "--debug")
    listed = engine.docker("volume", "inspect", f"{stack.name}_dso_api").stdout
    labels = json.dumps(stack.inspect("api")["Config"]["Labels"]).encode()
    status = stack.dso("status", "--format", "json").stdout
    for shown in (told.stdout, told.stderr, listed, labels, status, agent.log.encode()):
        assert canary.token not in shown
    assert b"dsofile://kv/key" in listed
    assert json.loads(listed)[0]["Driver"] == DRIVER


def test_nothing_changes_until_a_secret_does(stack, agent, canary):
    stack.dso("up", "-d")
    before = {service: stack.container(service) for service in ("api", "web", "plain")}
    stack.dso("up", "-d")
    assert {service: stack.container(service) for service in before} == before
    assert stack.dso("diff", "--exit-code").returncode == 0
    value = canary.value.decode()
    agent.change("kv/cert", {"text": "new-" + value})
    different = stack.dso("diff", "--exit-code", "--format", "json", check=False)
    assert different.returncode == DIFFERENCE_FOUND
    assert json.loads(different.stdout) == [
        {"service": "api", "change": "re-create", "environment": [], "files": ["/etc/tls/cert.pem"]}
    ]
    stack.dso("up", "-d")
    assert stack.container("api") != before["api"]
    assert stack.container("web") == before["web"]
    assert stack.exec("api", "cat", "/etc/tls/cert.pem", user="7:8").out == "new-" + value


def test_files_are_back_after_a_restart_without_docker_dso(stack, engine, canary):
    stack.dso("up", "-d")
    engine.docker("restart", "-t", "0", stack.container("api"))
    assert stack.exec("api", "cat", "/run/secrets/dso/kv.key").out == "key-" + canary.value.decode()


@pytest.mark.parametrize("words", [("stop", "start"), ("restart",)])
def test_compose_commands_start_containers_with_their_files(stack, canary, words):
    stack.dso("up", "-d")
    for word in words:
        stack.dso("compose", word, "-t", "0") if word != "start" else stack.dso("compose", word)
    assert stack.exec("api", "cat", "/run/secrets/dso/kv.key").out == "key-" + canary.value.decode()


def test_compose_run_has_the_secrets_too(stack, canary):
    shown = stack.dso("compose", "run", "--rm", "-T", "api", "sh", "-c", 'echo "$MAIL_TOKEN"; cat "$KEY"').out
    value = canary.value.decode()
    assert shown == f"mail-{value}\nkey-{value}"


def test_down_removes_containers_and_volumes_and_those_of_nobody_else(stack, engine):
    other = f"{stack.name}_other"
    engine.docker("volume", "create", other)
    try:
        stack.dso("up", "-d")
        stack.dso("down")
        stack.assert_nothing_left()
        assert engine.docker("volume", "ls", "-q", "--filter", f"name=^{other}$").out.strip() == other
    finally:
        engine.docker("volume", "rm", other)


def test_down_while_the_agent_does_not_run_leaves_only_what_the_next_one_removes(stack, agent):
    """With containers that still run it takes longer: the Engine waits 15 seconds for each answer of the driver."""
    stack.dso("up", "-d")
    stack.dso("compose", "rm", "-s", "-f")
    agent.kill()
    told = stack.dso("down", timeout=300).err
    assert "file secrets may be left in memory" in told
    assert "is dso-agent running?" in told
    agent.start()
    stack.dso("down")
    stack.assert_nothing_left()


def test_dry_run_and_validate_resolve_everything_and_start_nothing(stack, agent, canary):
    plan = stack.dso("up", "--dry-run", "--format", "json")
    entries = {(one["service"], one["name"]): one["reference"] for one in json.loads(plan.stdout)["secrets"]}
    assert entries["api", "/etc/tls/cert.pem"] == "dsofile://prod/cert"
    assert entries["web", "MAIL_TOKEN"] == "dso://prod/mail#token"
    checked = json.loads(stack.dso("validate", "--format", "json").stdout)
    assert checked == {"project": stack.name, "services": 2, "references": len(entries)}
    assert canary.token not in plan.stdout + plan.stderr
    assert stack.containers() == []
    assert stack.leftovers() == []


def test_inspect_masks_injected_variables_and_shows_the_reference(stack, canary):
    stack.dso("up", "-d")
    shown = stack.dso("inspect", stack.container("api"), "--format", "json").stdout
    assert canary.token not in shown
    variables = {one["name"]: one["reference"] for one in json.loads(shown)["environment"]}
    assert variables["MAIL_TOKEN"] == "dso://prod/mail#token"


def test_only_the_services_asked_for_are_resolved(stack):
    stack.compose_yaml(STACK.replace("dso://kv/db#password", "dso://kv/nowhere#password"))
    stack.dso("up", "-d", "web")
    assert stack.containers("api") == []
    assert len(stack.containers("web")) == 1


def test_all_missing_secrets_are_in_one_error_and_nothing_is_started(stack):
    text = STACK.replace("PW: dso://kv/db#password", "PW: dso://kv/nope").replace(
        "dsofile://kv/key\n", "dsofile://kv/no\n"
    )
    stack.compose_yaml(text)
    done = stack.dso("up", "-d", check=False)
    assert done.returncode == 21
    assert done.err.count("Error: ") == 1
    assert "dso://kv/nope (service api, variable PW)" in done.err
    assert "dsofile://kv/no (service api, file /run/secrets/dso/kv.no)" in done.err
    assert stack.leftovers() == []


def test_projects_own_dso_yaml_names_secrets_of_the_agents_providers(stack, home, canary):
    stack.compose_yaml(f"services:\n  api:\n    {SERVICE}\n    environment: {{A: 'dsofile://mine'}}\n")
    stack.write(
        "dso.yaml",
        "version: 1\nsecrets:\n  - {name: mine, provider: fake, path: kv/key}\n"
        "  - {name: more, provider: fake, path: kv/db, mappings: {port: PORT}, targets: {services: [api]}}\n",
    )
    del home.env[paths.MODE_VARIABLE]
    told = stack.dso("up", "-d").err
    assert told.startswith("[DSO] Running in CLOUD mode (auto-detected: ./dso.yaml)\n")
    assert environment_of(stack, "api")["PORT"] == "5432"
    assert stack.exec("api", "cat", "/run/secrets/dso/mine").out == "key-" + canary.value.decode()


def test_stack_without_references_starts(stack):
    stack.compose_yaml(f"services:\n  plain:\n    {SERVICE}\n")
    stack.dso("up", "-d")
    assert len(stack.containers("plain", running=True)) == 1


def test_project_changes_from_local_to_cloud_mode_and_back(stack, home, canary):
    stack.compose_yaml(f"services:\n  api:\n    {SERVICE}\n    environment: {{A: 'dsofile://kv/key'}}\n")
    home.run("init")
    home.run("secret", "set", "kv/key", input=b"local")

    def content():
        return stack.exec("api", "cat", "/run/secrets/dso/kv.key").out

    stack.dso("up", "-d", "--mode=local")
    assert content() == "local"
    refused = stack.dso("up", "-d", check=False)
    assert refused.returncode == 37
    assert "docker dso down" in refused.err
    stack.dso("compose", "rm", "-s", "-f")
    stack.dso("up", "-d")
    assert content() == "key-" + canary.value.decode()
    stack.dso("down")
    stack.dso("up", "-d", "--mode=local")
    assert content() == "local"


def test_a_volume_that_only_has_dsos_labels_is_neither_used_nor_removed(stack, engine, tmp_path):
    name = f"{stack.name}_dso_api"
    labels = ["io.dso.role=volume", f"io.dso.project={stack.name}", "io.dso.service=api"]
    options = ["type=tmpfs", f"device={tmp_path}", "o=bind"]
    words = [word for label in labels for word in ("--label", label)]
    words += [word for option in options for word in ("--opt", option)]
    engine.docker("volume", "create", *words, name)
    refused = stack.dso("up", "-d", check=False)
    assert (refused.returncode, name in refused.err, stack.containers()) == (37, True, [])
    stack.dso("down")
    assert engine.docker("volume", "ls", "-q", "--filter", f"name={name}").out.split() == [name]


def test_another_project_that_mounts_a_services_volume_is_refused_and_named(stack, make_project):
    stack.dso("up", "-d")
    evil = make_project()
    volume = f"{stack.name}_dso_api"
    evil.compose_yaml(
        f"services:\n  spy:\n    {SERVICE}\n    volumes: ['data:/s']\n"
        f"volumes: {{data: {{name: {volume}, external: true}}}}\n"
    )
    refused = evil.dso("up", "-d", check=False)
    assert (refused.returncode, evil.containers()) == (37, [])
    assert f"mounts the volume {volume}" in refused.err
    evil.compose("up", "-d")  # what Docker lets anybody do who may use it
    refused = stack.dso("up", "-d", check=False)
    assert refused.returncode == 37
    assert f"the container {evil.name}-spy-1 mounts the volume {volume}" in refused.err
    evil.compose("down", "-t", "0")
    stack.dso("up", "-d")


def test_stale_value_is_used_with_a_warning_while_the_provider_is_down(stack, agent, canary):
    agent.use_fake(cache_ttl="1s")
    agent.restart()
    stack.compose_yaml(f"services:\n  api:\n    {SERVICE}\n    environment: {{A: 'dsofile://kv/key'}}\n")
    agent.value("dso://kv/key")
    agent.write_secrets({"*": {"error": "unavailable"}})
    wait_until(lambda: agent.resolve("dso://kv/key")["resolved"][0]["stale"], "a stale value")
    told = stack.dso("up", "-d").err
    assert "warning: dsofile://kv/key: its provider cannot be reached" in told
    assert stack.exec("api", "cat", "/run/secrets/dso/kv.key").out == "key-" + canary.value.decode()
    (secret,) = json.loads(stack.dso("status", "--format", "json").stdout)["agent"]["secrets"]
    assert secret["stale"] is True
