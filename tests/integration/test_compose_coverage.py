"""Every Compose feature the docs name, brought up for real: see tests/fixtures/compose/README.md."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.home import DsoHome
from tests.support.process import ROOT
from tests.support.wait import wait_until

SCENARIOS = Path(ROOT, "tests", "fixtures", "compose")
NAMES = sorted(path.parent.name for path in SCENARIOS.glob("*/scenario.json"))
SECRETS = {
    "shop/api_key": b'key-$1-"x"',
    "shop/db_password": b"p$$w'\\n",
    "shop/db_name": b"shop",
    "shop/settings": b'{"a": 1, "b": true}',
    "tls/key": b"-----KEY-----\n",
}


@pytest.fixture(scope="session")
def vault(tmp_path_factory, variant):
    """A `.dso` folder with the scenarios' secrets, made once."""
    home = DsoHome(str(tmp_path_factory.mktemp("vault") / "home"), variant)
    home.run("init")
    for name, value in SECRETS.items():
        home.run("secret", "set", name, "--raw", input=value)
    return home.dso_dir


@pytest.fixture
def stocked(home, vault):
    """A home whose vault holds the scenarios' secrets."""
    shutil.copytree(vault, home.dso_dir)
    return home


def in_container(engine, container, path):
    """A file of a container, mounted ones included: its content and its tar header."""
    with tarfile.open(fileobj=io.BytesIO(engine.docker("cp", f"{container}:{path}", "-").stdout)) as archive:
        (member,) = archive.getmembers()
        return archive.extractfile(member).read(), member


def copy_scenario(name, project):
    shutil.copytree(SCENARIOS / name, project.directory, dirs_exist_ok=True)
    text = Path(project.path("scenario.json")).read_text(encoding="utf-8").replace("{project}", project.name)
    return json.loads(text)


def check(project, engine, scenario: dict[str, Any]):
    for service, variables in scenario.get("environment", {}).items():
        found = dict(entry.split("=", 1) for entry in project.inspect(service)["Config"]["Env"])
        assert {name: found.get(name) for name in variables} == variables
    for service, files in scenario.get("files", {}).items():
        for path, wanted in files.items():
            content, header = in_container(engine, project.container(service), path)
            found = {"content": content.decode(), "uid": header.uid, "gid": header.gid, "mode": f"{header.mode:o}"}
            assert {key: found[key] for key in wanted} == wanted, path
    for service in scenario.get("absent", []):
        assert project.containers(service) == []


@pytest.mark.parametrize("name", NAMES)
def test_scenario_gets_its_secrets(name, stocked, project, engine):
    scenario = copy_scenario(name, project)
    cwd = project.path(scenario.get("cwd", ""))
    stdin = Path(project.path(scenario["stdin"])).read_bytes() if "stdin" in scenario else b""
    stocked.run(*scenario.get("args", ["up", "-d"]), cwd=cwd, env=scenario.get("env"), input=stdin)
    check(project, engine, scenario)
    stocked.run("down", "-p", project.name, "--rmi", "local", cwd=project.directory)
    project.assert_nothing_left()


def test_name_in_the_file_and_upper_case_directory(stocked, project):
    base = "services:\n  api:\n    image: dso-test/busybox\n    command: sleep 1000\n    stop_signal: SIGKILL\n"
    secrets = '    environment: {KEY: "dso://shop/api_key", F: "dsofile://tls/key"}\n'
    for directory, header, name in (
        ("named", f"name: {project.name}-named\n", f"{project.name}-named"),
        (f"UPPER_{project.name}", "", f"upper_{project.name}"),
    ):
        project.names.append(name)
        project.write(f"{directory}/compose.yaml", header + base + secrets)
        stocked.run("up", "-d", cwd=project.path(directory))
        assert (
            project.engine.docker("exec", f"{name}-api-1", "cat", "/run/secrets/dso/tls.key").out == "-----KEY-----\n"
        )
        stocked.run("down", cwd=project.path(directory))
    project.assert_nothing_left()


def test_every_replica_gets_the_secrets(stocked, project, engine):
    copy_scenario("create-and-start", project)
    stocked.run("up", "-d", "--scale", "api=3", cwd=project.directory)
    containers = project.containers("api")
    assert len(containers) == 3
    assert {in_container(engine, each, "/run/secrets/dso/tls.key")[0] for each in containers} == {b"-----KEY-----\n"}
    stocked.run("compose", "scale", "api=4", cwd=project.directory)
    assert len(project.containers("api", running=True)) == 4
    stocked.run("down", cwd=project.directory)


def test_image_without_a_shell_reads_its_file(stocked, project, engine, images):
    project.compose_yaml(f"""
services:
  api:
    image: {images.scratch}
    command: ["/run/secrets/dso/tls.key"]
    stop_signal: SIGKILL
    read_only: true
    user: "65532:65532"
    environment: {{KEY_FILE: "dsofile://tls/key"}}
""")
    stocked.run("up", "-d", cwd=project.directory)
    digest = hashlib.sha256(SECRETS["tls/key"]).hexdigest()
    wait_until(lambda: digest in project.logs("api").out, "what the program says of its file")
    stocked.run("down", cwd=project.directory)


def test_run_gives_a_one_off_container_its_secrets(stocked, project):
    copy_scenario("create-and-start", project)
    found = stocked.run(
        "compose", "run", "--rm", "api", "sh", "-c", "echo $API_KEY; cat $KEY_FILE", cwd=project.directory
    )
    assert found.stdout == b'key-$1-"x"\n-----KEY-----\n'
    stocked.run("down", cwd=project.directory)
    project.assert_nothing_left()


def test_start_after_stop_delivers_again(stocked, project):
    copy_scenario("create-and-start", project)
    stocked.run("up", "-d", cwd=project.directory)
    stocked.run("compose", "stop", cwd=project.directory)
    assert project.keepers() == []
    stocked.run("compose", "start", cwd=project.directory)
    assert project.exec("api", "cat", "/run/secrets/dso/tls.key").out == "-----KEY-----\n"
    stocked.run("down", cwd=project.directory)


def test_other_commands_are_passed_through(stocked, project):
    copy_scenario("map-environment", project)
    assert stocked.run("compose", "version", "--short", cwd=project.directory).out == (
        project.compose("version", "--short").out
    )
    ours = stocked.run("compose", "config", "--services", cwd=project.directory)
    assert ours.out == "api\n"
    failed = stocked.run("compose", "exec", "api", "true", cwd=project.directory, check=False)
    theirs = project.compose("exec", "api", "true", check=False)
    assert (failed.returncode, failed.stderr) == (theirs.returncode, theirs.stderr)


@pytest.mark.parametrize("content", ["services: [", "services:\n  api:\n    imagee: x\n", "services: {api: {}}"])
def test_composes_own_errors_are_passed_on_as_they_are(stocked, project, content):
    project.compose_yaml(content)
    ours = stocked.run("up", "-d", cwd=project.directory, check=False)
    theirs = project.compose("config", check=False)
    assert theirs.returncode != 0
    assert ours.returncode == theirs.returncode
    assert theirs.err in ours.err
