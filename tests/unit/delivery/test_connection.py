"""Which Engine Docker's flags, variables and configuration file mean."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from dso.delivery.connection import DEFAULT_SOCKET, dial, dial_error, find_target, open_socket
from dso.errors import DockerNotFoundError, EngineUnreachableError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def configure(directory: Path, content: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("docker_args", "environ", "path"),
    [
        ([], {}, DEFAULT_SOCKET),
        (["-D"], {}, DEFAULT_SOCKET),
        (["-l", "debug", "--log-level=warn"], {}, DEFAULT_SOCKET),
        ([], {"DOCKER_HOST": ""}, DEFAULT_SOCKET),
        ([], {"DOCKER_HOST": "unix:///run/a.sock"}, "/run/a.sock"),
        ([], {"DOCKER_HOST": "unix:///run/a.sock", "DOCKER_CONTEXT": "prod"}, "/run/a.sock"),
        ([], {"DOCKER_CONTEXT": "default"}, DEFAULT_SOCKET),
        (["-c", "default"], {"DOCKER_HOST": "unix:///run/a.sock"}, "/run/a.sock"),
        (["--context=default"], {"DOCKER_CONTEXT": "prod"}, DEFAULT_SOCKET),
        (["-H", "unix:///run/b.sock"], {"DOCKER_HOST": "tcp://x:1", "DOCKER_CONTEXT": "prod"}, "/run/b.sock"),
        (["-Hunix:///run/b.sock"], {}, "/run/b.sock"),
        (["--host=unix:///run/b.sock"], {}, "/run/b.sock"),
        (["--config", "/nowhere"], {}, DEFAULT_SOCKET),
    ],
)
def test_plainly_local_engine_is_reached_through_its_socket(
    docker_args: list[str], environ: dict[str, str], path: str
) -> None:
    assert find_target(docker_args, environ).socket_path == path


@pytest.mark.parametrize(
    ("docker_args", "environ"),
    [
        (["-c", "prod"], {}),
        (["--context=prod"], {"DOCKER_HOST": "unix:///run/a.sock"}),
        ([], {"DOCKER_CONTEXT": "prod"}),
        ([], {"DOCKER_HOST": "ssh://root@example"}),
        ([], {"DOCKER_HOST": "tcp://10.0.0.1:2376"}),
        (["-H", "ssh://example"], {}),
        (["-H", "unix:///run/a.sock", "-c", "prod"], {}),  # docker refuses this itself
        (["-H", "unix:///run/a.sock", "-H", "unix:///run/b.sock"], {}),
        (["-H", "unix://relative.sock"], {}),
        (["--tlsverify"], {}),
        (["--tlscacert=ca.pem"], {}),
        (["-DH", "unix:///run/a.sock"], {}),
        (["-DHunix:///run/a.sock"], {}),
        ([], {"DOCKER_TLS_VERIFY": "1"}),
    ],
)
def test_every_other_engine_is_reached_through_docker_itself(docker_args: list[str], environ: dict[str, str]) -> None:
    target = find_target(docker_args, environ)
    assert target.socket_path is None
    assert target.docker_args == tuple(docker_args)


def test_current_context_of_the_configuration_file_counts(tmp_path: Path) -> None:
    configure(tmp_path / ".docker", {"currentContext": "prod"})
    assert find_target([], {}).socket_path is None
    assert find_target([], {"DOCKER_CONTEXT": "default"}).socket_path == DEFAULT_SOCKET
    assert find_target([], {"DOCKER_HOST": "unix:///run/a.sock"}).socket_path == "/run/a.sock"


@pytest.mark.parametrize("content", [{}, {"auths": {}}, {"currentContext": ""}, {"currentContext": "default"}, []])
def test_configuration_file_without_another_context_changes_nothing(tmp_path: Path, content: object) -> None:
    configure(tmp_path / ".docker", content)
    assert find_target([], {}).socket_path == DEFAULT_SOCKET


def test_damaged_configuration_file_is_left_to_docker(tmp_path: Path) -> None:
    configure(tmp_path / ".docker", '{"currentContext": "prod"')
    assert find_target([], {}).socket_path is None


def test_configuration_directory_of_flag_and_variable_is_honoured(tmp_path: Path) -> None:
    configure(tmp_path / "a", {"currentContext": "prod"})
    configure(tmp_path / "b", {})
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert find_target([], {"DOCKER_CONFIG": a}).socket_path is None
    assert find_target(["--config", a], {}).socket_path is None
    assert find_target([f"--config={b}"], {"DOCKER_CONFIG": a}).socket_path == DEFAULT_SOCKET


def test_equal_connections_share_an_identity_and_others_do_not() -> None:
    local = find_target([], {}).identity
    assert find_target(["-H", f"unix://{DEFAULT_SOCKET}"], {}).identity == local
    assert find_target(["-c", "default"], {}).identity == local
    others = [
        find_target(["-c", "prod"], {}).identity,
        find_target(["-H", "unix:///run/a.sock"], {}).identity,
        find_target([], {"DOCKER_HOST": "ssh://example"}).identity,
    ]
    assert len({local, *others}) == 4
    assert find_target([], {"DOCKER_CONTEXT": "prod"}).identity == others[0]


def test_missing_socket_says_how_to_start_the_engine(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachableError, match="there is no") as caught:
        open_socket(str(tmp_path / "no.sock"), 1)
    assert "systemctl start docker" in caught.value.hint


def test_socket_nobody_listens_on_says_how_to_start_the_engine(tmp_path: Path) -> None:
    import socket

    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        with pytest.raises(EngineUnreachableError, match="does not answer: Connection refused") as caught:
            open_socket(path, 1)
    assert "systemctl start docker" in caught.value.hint


def test_forbidden_socket_names_the_docker_group(monkeypatch: pytest.MonkeyPatch) -> None:
    from dso.delivery import connection

    error = connection._unreachable("/var/run/docker.sock", PermissionError(13, "Permission denied"))
    assert "may not speak" in error.message
    assert "usermod -aG docker" in error.hint


def test_missing_docker_command_is_its_own_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", raising=False)
    with pytest.raises(DockerNotFoundError):
        dial(find_target(["-c", "prod"], {}), 1)


def test_dial_failure_repeats_dockers_reason_and_flags() -> None:
    error = dial_error(find_target(["-c", "prod"], {}), "warning: x\ncontext not found")
    assert error.message.endswith("context not found")
    assert "docker -c prod version" in error.hint


def fake_docker(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.delenv("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", raising=False)


def test_dial_starts_docker_with_the_users_flags_and_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, 'echo "$@" >&2; echo "key=$DSO_MASTER_KEY" >&2; cat', monkeypatch)
    monkeypatch.setenv("DSO_MASTER_KEY", "0" * 64)
    child = dial(find_target(["-c", "prod"], {}), 5)
    child.connection.sendall(b"echo")
    assert child.connection.recv(10) == b"echo"
    assert child.close().splitlines() == ["-c prod system dial-stdio", "key="]


def test_dial_hands_no_descriptor_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, "ls /proc/self/fd >&2", monkeypatch)
    with open(tmp_path / "lock", "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        child = dial(find_target(["-c", "prod"], {}), 5)
        assert child.connection.recv(10) == b""
        assert set(child.close().split()) == {"0", "1", "2", "3"}  # 3: the directory that ls reads


def test_dial_survives_control_c_on_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_docker(tmp_path, "cat", monkeypatch)
    child = dial(find_target(["-c", "prod"], {}), 5)
    assert os.getpgid(child.pid) != os.getpgrp()
    child.close()
