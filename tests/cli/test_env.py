"""`docker dso env`, as users run it, with Compose as the judge of what a file means."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from dso.errors import EnvFileError, SecretExistsError, UnsuitableValueError

if TYPE_CHECKING:
    from tests.support.home import DsoHome

# What a hand-written file may hold; the last three lines are one variable.
HAND_WRITTEN = """\
# database
DB_USER=app   # not a secret
export DB_PASSWORD='p$w "x" #1'
URL="postgres://${DB_USER}:secret@db/${DB_NAME:-shop}"
REGEX="^\\\\d+\\$"
dotted.name-1: yes
PEM="-----BEGIN KEY-----
abc=
-----END KEY-----"
"""
HAND_WRITTEN_NAMES = ["DB_USER", "DB_PASSWORD", "URL", "REGEX", "dotted.name-1", "PEM"]


@pytest.fixture
def vault(home: DsoHome) -> DsoHome:
    home.run("init")
    return home


def compose_reads(home: DsoHome, content: bytes) -> dict[str, str]:
    """The variables a container gets from a file by way of `env_file`."""
    directory = os.path.join(home.path, "judge")
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/judged.env", "wb") as stream:
        stream.write(content)
    with open(f"{directory}/compose.yaml", "w") as stream:
        json.dump({"name": "judge", "services": {"s": {"image": "none", "env_file": "judged.env"}}}, stream)
    done = home.command("docker", "compose", "config", "--format", "json", cwd=directory)
    environment = json.loads(done.stdout)["services"]["s"]["environment"]
    return {name: value.replace("$$", "$") for name, value in environment.items()}


def write(home: DsoHome, name: str, content: str) -> bytes:
    with open(os.path.join(home.path, name), "w", encoding="utf-8", newline="") as stream:
        stream.write(content)
    return content.encode()


def test_import_interpolate_then_export_gives_what_compose_read_before(vault: DsoHome) -> None:
    before = compose_reads(vault, write(vault, "prod.env", HAND_WRITTEN))
    done = vault.run("env", "import", "prod.env", "shop", "--interpolate")
    assert done.out.splitlines() == [f"{name}: dso://shop/{name}" for name in HAND_WRITTEN_NAMES]
    assert f"plaintext is still in {vault.path}/prod.env" in done.err
    assert compose_reads(vault, vault.run("env", "export", "shop").stdout) == before


def test_values_survive_import_and_export_to_the_byte(vault: DsoHome) -> None:
    values = {
        "DOLLARS": "$ $$ $X ${X} ${X:-y} $(id) `id`",
        "QUOTES": 'it\'s "quoted" \'\' ""',
        "BACKSLASHES": "\\ \\\\ \\n \\\" \\' \\$ \\0101 \\",
        "SPACES": "  both ends\t ",
        "LINES": "\na\r\nb\rc\n\n",
        "HASH": "#a #b",
        "UNICODE": "ä\u00a0\ufeff\u2028\U0001f511",
        "CONTROL": "".join(map(chr, range(1, 32))) + "\x7f",
    }
    for name, value in values.items():
        vault.run("secret", "set", f"shop/{name}", "--raw", input=value)
    exported = vault.run("env", "export", "shop").stdout
    assert compose_reads(vault, exported) == values
    vault.run("env", "import", "-", "copy", "--interpolate", input=exported)
    assert json.loads(vault.run("env", "export", "copy", "--format", "json").stdout) == values


def test_import_is_all_or_nothing(vault: DsoHome) -> None:
    vault.run("secret", "set", "shop/B", input="mine")
    write(vault, ".env", "A=1\nB=theirs\n")
    done = vault.run("env", "import", ".env", "shop", check=False)
    assert done.returncode == SecretExistsError.code
    assert "shop/B" in done.err
    assert "theirs" not in done.err
    write(vault, ".env", "A=1\nC=\n")
    assert vault.run("env", "import", ".env", "shop", check=False).returncode == EnvFileError.code
    assert vault.run("secret", "list", "-q").out.split() == ["shop/B"]


def test_export_of_what_no_variable_can_hold_writes_nothing(vault: DsoHome) -> None:
    vault.run("secret", "set", "shop/A", input="1")
    vault.run("secret", "set", "shop/KEY", "--raw", input=b"\x00\xff")
    done = vault.run("env", "export", "shop", "-o", "out.env", check=False)
    assert done.returncode == UnsuitableValueError.code
    assert "shop/KEY" in done.err
    assert not os.path.exists(f"{vault.path}/out.env")


def test_help_needs_no_vault(home: DsoHome) -> None:
    for words in ((), ("import",), ("export",)):
        assert "usage: docker dso env" in home.run("env", *words, "--help").out
