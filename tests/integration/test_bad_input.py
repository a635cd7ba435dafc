"""Bad input gets one clear error with what to do next, its exit code, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from dso import errors
from tests.support.canary import Canary

STACK = """
services:
  api:
    image: dso-test/busybox
    command: sleep 1000
    stop_signal: SIGKILL
    environment: {KEY: "dso://shop/key"}
"""


@pytest.fixture
def canary():
    return Canary.new()


@pytest.fixture
def stack(home, project, canary):
    """A project with one secret, in the vault of `home`."""
    home.run("init")
    home.run("secret", "set", "shop/key", input=canary.value)
    project.compose_yaml(STACK)
    return project


def vault_of(home):
    return Path(home.vault_file)


def refused(stack, code, *told, words=("up", "-d"), env=None, run=None):
    """Run a command that must fail; its message must be one error, tell these things, and change nothing."""
    home = stack.home
    before = vault_of(home).read_bytes() if vault_of(home).exists() else None
    containers = stack.containers()
    result = (run or home.run)(*words, cwd=stack.directory, env=env, check=False)
    assert result.returncode == code, result.err
    assert result.err.count("Error: ") == 1
    assert "Traceback" not in result.err
    for text in told:
        assert text in result.err
    assert (vault_of(home).read_bytes() if before is not None else None) == before
    assert stack.containers() == containers
    assert stack.keepers() == []
    return result


def test_no_mode_at_all(home, project):
    project.compose_yaml(STACK)
    refused(project, 3, "/etc/dso/dso.yaml", "./dso.yaml", "~/.dso/vault.enc", "docker dso init", "system setup")


def test_vault_that_is_none_or_was_cut_or_changed(stack, home):
    vault = vault_of(home)
    good = vault.read_bytes()
    for bad in (b"", b"not a vault\n", good[:40], good[:-1], good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]):
        vault.write_bytes(bad)
        refused(stack, errors.VaultDamagedError.code, "hint: ")
    vault.write_bytes(good)
    assert home.run("secret", "list", "-q").out == "shop/key\n"


def test_vault_of_a_newer_version(stack, home):
    vault = vault_of(home)
    vault.write_bytes(vault.read_bytes().replace(b'"version":1', b'"version":2', 1))
    refused(stack, errors.VaultVersionError.code, "newer", "hint: ")


def test_wrong_key_and_missing_key(stack, home):
    key = Path(home.dso_dir, "master.key")
    key.write_text("11" * 32 + "\n", encoding="ascii")
    refused(stack, errors.WrongKeyError.code, "hint: ")
    key.unlink()
    refused(stack, errors.WrongKeyError.code, "hint: ")
    refused(stack, errors.WrongKeyError.code, "DSO_MASTER_KEY", "hint: ", env={"DSO_MASTER_KEY": "00" * 32})


def test_key_file_readable_by_others_is_refused_with_the_chmod(stack, home):
    key = Path(home.dso_dir, "master.key")
    key.chmod(0o644)
    refused(stack, errors.InsecurePermissionsError.code, f"chmod 600 {key}")


def test_disk_full_keeps_the_old_vault(stack, home):
    """A real full disk: a small tmpfs holds ~/.dso, in a mount name space of its own."""
    script = """
set -e
mount -t tmpfs -o size=64k,mode=0700 none "$1"
cp -a "$2"/. "$1"/
head -c 200000 /dev/urandom >"$1/filler" 2>/dev/null || true
before=$(sha256sum <"$1/vault.enc")
code=0
head -c 3000 /dev/urandom | docker dso secret set shop/large --raw || code=$?
[ "$before" = "$(sha256sum <"$1/vault.enc")" ] || exit 99
rm "$1/filler"
docker dso secret list -q
exit $code
"""
    copy = f"{home.path}/copy"
    shutil.copytree(home.dso_dir, copy)
    result = home.command("unshare", "-m", "bash", "-c", script, "bash", home.dso_dir, copy, check=False)
    assert result.returncode == errors.VaultWriteError.code, result.err
    assert result.out == "shop/key\n"
    assert "hint: " in result.err


def test_missing_secrets_are_all_told_at_once_with_the_nearest_name(stack):
    stack.compose_yaml(STACK.replace('{KEY: "dso://shop/key"}', '{A: "dso://shop/kye", B: "dsofile://nope/b"}'))
    refused(
        stack,
        errors.SecretNotFoundError.code,
        "2 secrets are not in the vault",
        "dso://shop/kye (service api, variable A): did you mean shop/key?",
        "dsofile://nope/b (service api",
    )


@pytest.mark.parametrize("reference", ["dso://", "dso:///x", "dso://shop/../x", "dso://shop/k y", "see dso://shop/key"])
def test_malformed_reference(stack, reference):
    stack.compose_yaml(STACK.replace("dso://shop/key", reference))
    refused(stack, errors.ReferenceSyntaxError.code, "service api, variable KEY", "dso://[NAMESPACE/]PATH")


def test_reference_where_dso_serves_none(stack):
    stack.compose_yaml(STACK + "    labels: {l: dso://shop/key}\n    hostname: dso://shop/key\n")
    refused(stack, errors.ReferencePlaceError.code, "service api: labels.l", "service api: hostname")
    stack.compose_yaml(STACK)
    words = ("compose", "run", "--rm", "-e", "X=dso://shop/key", "api", "env")
    refused(stack, errors.ReferencePlaceError.code, "command line", words=words)


def test_reference_in_a_build_argument_never_reaches_an_image(stack):
    stack.compose_yaml(STACK + "    build: {context: ., args: {A: dso://shop/key}}\n")
    refused(stack, errors.ReferencePlaceError.code, "service api: build.args.A", words=("compose", "build"))


def test_no_docker_on_the_path(stack, home):
    refused(stack, errors.DockerNotFoundError.code, "docker", "hint: ", env={"PATH": "/nonexistent"}, run=home.dso)


def test_no_compose(stack, home, tmp_path):
    """A `docker` that knows no plugins stands for one without Compose."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2\nexit 1\n", encoding="ascii")
    docker.chmod(0o755)
    env = {"PATH": f"{docker.parent}:/usr/bin:/bin"}
    refused(stack, errors.ComposeNotFoundError.code, "Compose", "hint: ", env=env, run=home.dso)


def test_docker_without_its_compose_plugin(stack, home):
    """The real `docker`, whose plugins are hidden in a mount name space."""
    listed = json.loads(home.command("docker", "info", "--format", "{{json .ClientInfo.Plugins}}").stdout)
    folders = {os.path.dirname(plugin["Path"]) for plugin in listed if plugin["Name"] == "compose"}
    hide = "".join(f"mount -t tmpfs none {folder}; " for folder in folders - {os.path.dirname(home.plugin)})

    def run(*words, **options):
        return home.command("unshare", "-m", "sh", "-c", hide + 'exec docker dso "$@"', "sh", *words, **options)

    for words in (("up", "-d"), ("validate",), ("down",)):
        refused(stack, errors.ComposeNotFoundError.code, "no Compose v2 plugin", "hint: ", words=words, run=run)


def test_user_who_may_not_speak_to_the_engine(stack, home, engine):
    """A user of no group, whose own the HOME is."""
    socket = engine.env.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    assert os.stat(socket).st_mode & 0o007 == 0
    stack.compose_yaml(STACK.replace("dso://shop/key", "dsofile://shop/key"))
    for folder in Path(stack.directory).parents:  # pytest's own folders are root's alone
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(0o711)
    binary = os.path.realpath(home.plugin)  # which may lie below root's HOME
    os.unlink(home.plugin)
    shutil.copy(binary, home.plugin)
    home.command("chown", "-R", "65534:65534", home.path)

    def run(*words, **options):
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        return home.command(*drop, "docker", "dso", *words, **options)

    refused(stack, errors.EngineUnreachableError.code, "this user may not speak to", "usermod -aG docker", run=run)


def test_refused_up_leaves_the_running_stack_and_its_files_alone(stack, home, engine):
    stack.compose_yaml(STACK.replace("dso://shop/key", "dsofile://shop/key"))
    home.run("up", "-d", cwd=stack.directory)
    before = (stack.containers(running=True), stack.keepers())
    stack.compose_yaml(STACK.replace("dso://shop/key", "dsofile://shop/none"))
    assert home.run("up", "-d", cwd=stack.directory, check=False).returncode == errors.SecretNotFoundError.code
    stack.compose_yaml(STACK.replace("dso://shop/key", "dsofile://shop/key"))
    vault_of(home).write_bytes(vault_of(home).read_bytes()[:-1])
    for words in (["up", "-d"], ["validate"], ["compose", "restart"]):
        done = home.run(*words, cwd=stack.directory, check=False)
        assert done.returncode == errors.VaultDamagedError.code
    assert (stack.containers(running=True), stack.keepers()) == before
    engine.docker("restart", "-t", "0", *before[0])
    assert stack.exec("api", "ls", "/run/secrets/dso").out == "shop.key\n"
    home.run("down", cwd=stack.directory)  # needs no vault
    stack.assert_nothing_left()


@pytest.mark.parametrize("host", ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:1"])
def test_engine_that_does_not_answer(stack, host):
    result = refused(stack, errors.EngineUnreachableError.code, "hint: ", env={"DOCKER_HOST": host})
    assert "warning" not in result.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nope",), "unknown command 'nope'"),
        (("statsu",), "did you mean `docker dso status`?"),
        (("ps",), "docker dso compose ps"),
        (("--nope", "up"), "unknown flag"),
        (("secret", "nope"), "invalid choice"),
        (("up", "--mode"), "needs a value"),
        (("up", "--mode=sideways"), "local or cloud"),
        (("up", "--mode=local", "-c", "x.yaml"), "contradict"),
    ],
)
def test_mistakes_on_the_command_line_are_exit_125(stack, words, told):
    refused(stack, errors.UsageError.code, told, words=words)


def test_cloud_mode_without_an_agent_says_so_and_names_the_other_mode(stack, home):
    home.env["DSO_SOCKET_PATH"] = f"{home.path}/none.sock"  # whatever agent this machine runs
    for words, env in ((("up", "-c", "x.yaml"), {}), (("up",), {"DSO_MODE": "cloud"}), (("--mode=cloud", "up"), {})):
        refused(stack, errors.AgentUnavailableError.code, "dso-agent", "--mode=local", words=words, env=env)
    stack.write("dso.yaml", "version: 1\n")
    refused(stack, errors.AgentUnavailableError.code, "auto-detected: ./dso.yaml", "cloud wins")
    script = "mkdir -p /etc/dso && mount -t tmpfs none /etc/dso && touch /etc/dso/dso.yaml && exec docker dso up"
    system = home.command("unshare", "-m", "sh", "-c", script, cwd=stack.directory, check=False)
    assert "auto-detected: /etc/dso/dso.yaml" in system.err
    assert home.run("validate", cwd=stack.directory, env={"DSO_MODE": "local"}).returncode == 0


def test_value_that_no_variable_can_hold_proposes_a_file(stack, home):
    home.run("secret", "set", "shop/key", "--raw", input=b"a\0b")
    refused(stack, errors.UnsuitableValueError.code, "service api, variable KEY", "NUL", "dsofile://")


def test_debug_shows_where_it_failed_and_never_a_value(stack, home, canary):
    stack.compose_yaml(STACK.replace("dso://shop/key", "{{dso://shop/key}}{{dso://shop/none}}"))
    result = home.run("--debug", "up", "-d", cwd=stack.directory, check=False)
    assert result.returncode == errors.SecretNotFoundError.code
    assert "Traceback (values left out)" in result.err
    assert canary.find(result.stdout + result.stderr) is None


def test_dry_run_starts_nothing_and_shows_no_value(stack, home, canary):
    table = home.run("up", "--dry-run", cwd=stack.directory)
    shown = home.run("up", "--dry-run", "--format", "json", cwd=stack.directory)
    assert json.loads(shown.out)["secrets"] == [
        {"service": "api", "kind": "env", "name": "KEY", "reference": "dso://shop/key"}
    ]
    assert canary.find(table.stdout + table.stderr + shown.stdout + shown.stderr) is None
    assert stack.containers() == []
    assert stack.keepers() == []
    assert os.listdir(stack.directory) == ["compose.yaml"]
