"""Which modules the hot paths import: start-up time is their sum."""

from __future__ import annotations

import os
import sysconfig
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_agent import FakeAgent
from tests.support.process import KEPT_VARIABLES, PYTHON, ROOT, environment, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    ImportedBy = Callable[..., set[str]]

# A bare interpreter, like the frozen one: no site, no .pth files. It runs the launcher, and when
# that ends the process writes what was imported by then to the file OUT.
_RUN = f"""
import os, posix, sys
sys.path += [{ROOT!r}, {sysconfig.get_path("purelib")!r}]
before = set(sys.modules)
leave = os._exit
def report(code):
    with open(os.environ["OUT"], "w") as out:
        out.write("\\n".join(sorted(set(sys.modules) - before)))
    leave(code)
os._exit = posix._exit = report
with open({ROOT!r} + "/dso/entry/docker_dso.py") as launcher:
    exec(compile(launcher.read(), "docker_dso.py", "exec"))
"""

METADATA = {"dso", "dso.entry", "dso.entry.metadata", "dso.version"}

LAUNCHER = METADATA | {
    *["__future__", "gettext", "resource"],  # gettext is the launcher's own stand-in
    *["dso.cli", "dso.cli.main", "dso.cli.invocation", "dso.cli.output", "dso.cli.commands", "dso.errors"],
    *["dso.system", "dso.system.memory", "dso.system.visible"],
}
# argparse and what it imports in turn, with and without output to format
PARSER = {
    *["argparse", "_collections", "_functools", "_operator", "_sre", "collections", "copyreg", "enum", "functools"],
    *["itertools", "keyword", "operator", "re", "re._casefix", "re._compiler", "re._constants", "re._parser"],
    *["reprlib", "types", "warnings", "dso.cli.parser", "textwrap"],
}
GET = {
    *["dso.cli.cmd_secret", "dso.paths", "dso.secret", "dso.system.files", "dso.system.json_fast"],
    *["dso.system.native", "_blake2", "_json", "errno", "fcntl", "time"],
    *["dso.vault", "dso.vault.format", "dso.vault.names", "dso.vault.payload", "dso.vault.slots"],
    *["dso.vault.store", "dso.vault.unlock"],
    *["cryptography", "cryptography.__about__", "cryptography.hazmat", "cryptography.hazmat.bindings"],
    *["cryptography.hazmat.bindings._rust", "_cffi_backend", "_openssl", "_openssl.lib", "types"],
}


HELP = {
    *["_typing", "collections.abc", "contextlib", "typing", "typing.io", "typing.re"],
    *[
        "dso.paths",
        "dso.secret",
        "dso.vault",
        "dso.protocol",
        "dso.protocol.fields",
        "dso.vault.names",
    ],  # for what help texts quote
}


@pytest.fixture
def imported_by(tmp_path: Path) -> ImportedBy:
    out = tmp_path / "imported"

    def imported(*argv: str, input: str = "") -> set[str]:  # noqa: A002
        env = environment(str(tmp_path), {"OUT": str(out)})
        run([PYTHON, "-I", "-S", "-c", _RUN, *argv], env=env, input=input)
        return set(out.read_text().split())

    return imported


def test_metadata_imports_nothing_beyond_the_interpreter(imported_by: ImportedBy) -> None:
    assert imported_by("docker-cli-plugin-metadata") == METADATA


def test_version_imports_nothing_but_its_command(imported_by: ImportedBy) -> None:
    assert imported_by("version") <= LAUNCHER | {"dso.cli.cmd_version"}
    assert imported_by("--version") <= LAUNCHER | {"dso.cli.cmd_version"}


def test_a_command_with_flags_imports_argparse_and_no_more(imported_by: ImportedBy) -> None:
    imported = imported_by("version", "--format", "table")
    assert imported <= (LAUNCHER | PARSER | {"dso.cli.cmd_version"}) - {"textwrap"}
    assert "argparse" in imported


def test_secret_get_imports_only_what_it_takes_to_read_a_vault(imported_by: ImportedBy) -> None:
    imported_by("init")
    imported_by("secret", "set", "shop/key", input="value")
    assert imported_by("secret", "get", "shop/key") <= LAUNCHER | GET


def test_help_imports_no_more_than_the_commands(imported_by: ImportedBy) -> None:
    imported = imported_by("--help")
    commands = {name for name in imported if name.startswith("dso.cli.")}
    assert imported - commands <= LAUNCHER | PARSER | HELP


# A stand-in for `docker` that knows one thing: what `docker compose config` says of a stack.
_DOCKER = """#!/bin/sh
echo '{"name": "shop", "services": {"api": {"environment": {"A": "dso://shop/key"}}}}'
"""
CLOUD_ONLY = {
    *["dso.cli.cloud_backend", "dso.cli.project_config", "dso.cli.injection"],
    *["dso.delivery.volume", "dso.protocol.client", "dso.protocol.agent", "dso.protocol.state"],
}
YAML = {"yaml", "dso.config.load", "dso.config.document", "dso.config.schema"}
SLOW = {
    *["json", "asyncio", "socket", "logging", "dataclasses", "pathlib", "subprocess", "ssl", "tempfile"],
    "http.client",
}


@pytest.fixture
def stack(tmp_path: Path, imported_by: ImportedBy, monkeypatch: pytest.MonkeyPatch) -> ImportedBy:
    """What a command imports in a directory with one reference."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(_DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    imported_by("init")
    imported_by("secret", "set", "shop/key", input="value")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "compose.yaml").touch()
    imported_by("allow", "--directory", str(tmp_path / "project"), "shop")
    return imported_by


def test_local_mode_imports_nothing_of_cloud_mode(stack: ImportedBy, tmp_path: Path) -> None:
    imported = stack("validate", "--mode=local", "-f", str(tmp_path / "project" / "compose.yaml"))
    assert {"dso.cli.local_backend", "dso.vault.resolver"} <= imported
    assert not imported & (CLOUD_ONLY | YAML | SLOW)


def test_cloud_mode_imports_neither_the_vault_nor_yaml(
    stack: ImportedBy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeAgent(tmp_path, {"shop/key": b"value"}) as agent:
        monkeypatch.setattr("tests.support.process.KEPT_VARIABLES", (*KEPT_VARIABLES, "DSO_SOCKET_PATH"))
        monkeypatch.setenv("DSO_SOCKET_PATH", agent.socket)
        imported = stack("validate", "--mode=cloud")
        assert agent.asked() == ["GET /v1/secrets", "POST /v1/resolve"]
    assert {"dso.cli.cloud_backend", "dso.protocol.client"} <= imported
    vault = {"dso.vault.store", "dso.vault.unlock", "dso.vault.format", "cryptography"}
    assert not imported & (vault | YAML | SLOW)


# What the shell waits for while somebody presses TAB.
COMPLETION = {"dso.cli.cmd_complete", "dso.cli.completion", "dso.cli.completion_words", "dso.cli.completion_names"}


def test_completion_of_a_name_imports_one_command_and_what_reads_a_vault(imported_by: ImportedBy) -> None:
    imported_by("init")
    imported_by("secret", "set", "shop/key", input="value")
    imported = imported_by("__complete", "dso", "secret", "get", "")
    assert {"dso.cli.cmd_secret", "dso.vault.store"} <= imported
    assert imported <= LAUNCHER | PARSER | HELP | GET | COMPLETION | {"dso.cli.groups"}


def test_completion_of_a_command_imports_no_more_than_help(imported_by: ImportedBy) -> None:
    assert imported_by("__complete", "dso", "") <= imported_by("--help") | COMPLETION


def test_completion_of_a_service_imports_neither_vault_nor_cloud_mode(stack: ImportedBy) -> None:
    imported = stack("__complete", "dso", "up", "")
    assert {"dso.cli.completion_compose", "dso.compose.plugin"} <= imported
    vault = {"dso.vault.store", "dso.vault.unlock", "dso.vault.format", "cryptography"}
    assert not imported & (vault | CLOUD_ONLY | YAML | SLOW)


def test_an_interpreter_started_bare_lacks_what_the_tests_look_for() -> None:
    """Otherwise the tests above would pass whatever is imported."""
    code = "import sys; print('\\n'.join(sys.modules))"
    bare = set(run([PYTHON, "-I", "-S", "-c", code], env={"PATH": os.defpath}).out.split())
    assert not bare & (LAUNCHER | PARSER | GET) - {"time", "dso"}
