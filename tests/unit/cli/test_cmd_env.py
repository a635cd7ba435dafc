"""`env import` and `env export`, on a real vault in a scratch HOME."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import pytest

from dso import paths
from dso.cli.main import main
from dso.errors import (
    EnvFileError,
    FileAccessError,
    FileExistsRefusedError,
    SecretExistsError,
    SecretNotFoundError,
    UnsuitableValueError,
    UsageError,
    VaultNotFoundError,
)
from dso.secret import SecretValue
from dso.vault.keys import create_vault
from dso.vault.slots import KEYFILE
from dso.vault.store import Vault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Done(NamedTuple):
    code: int
    out: str
    err: str


class User:
    """Somebody with a vault, in a directory of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys = capsys
        self.monkeypatch = monkeypatch

    def env(self, *words: str, stdin: bytes = b"") -> Done:
        kept, given = os.dup(0), os.memfd_create("stdin")
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        os.dup2(given, 0)
        try:
            code = main(["docker-dso", "env", *words])
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(given)
        out, err = self.capsys.readouterr()
        return Done(code, out, err)

    def store(self, values: Mapping[str, bytes]) -> None:
        with Vault.edit() as vault:
            for name, value in values.items():
                vault.set(name, SecretValue(value))

    def stored(self) -> dict[str, bytes]:
        vault = Vault.open()
        return {name: vault.get(name).reveal() for name in vault.names()}


@pytest.fixture
def user(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(paths.MASTER_KEY_VARIABLE, "5a" * 32)
    monkeypatch.delenv("A", raising=False)
    monkeypatch.chdir(tmp_path)
    os.mkdir(paths.dso_dir(), 0o700)
    create_vault(paths.vault_file(), KEYFILE, bytes.fromhex("5a" * 32))
    return User(capsys, monkeypatch)


def write(name: str, content: str | bytes) -> None:
    with open(name, "wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


# import


def test_import_stores_every_variable_and_prints_the_lines_for_compose_yaml(user: User) -> None:
    write(".env", "# db\nDB_PASSWORD='p w'\nexport API_KEY=k#1 # c\nPEM=\"a\nb\n\"\n")
    done = user.env("import", ".env", "shop")
    assert done.code == 0
    assert user.stored() == {"shop/API_KEY": b"k#1", "shop/DB_PASSWORD": b"p w", "shop/PEM": b"a\nb\n"}
    assert done.out.splitlines() == [
        "DB_PASSWORD: dso://shop/DB_PASSWORD",
        "API_KEY: dso://shop/API_KEY",
        "PEM: dso://shop/PEM",
    ]


def test_import_says_that_the_plaintext_is_still_there(user: User) -> None:
    write("my prod.env", "A=hunter2\n")
    done = user.env("import", "my prod.env")
    assert f"plaintext is still in {os.getcwd()}/my prod.env" in done.err
    assert f"rm '{os.getcwd()}/my prod.env'" in done.err
    assert "Git history and backups" in done.err
    assert "hunter2" not in done.err + done.out
    assert os.path.exists("my prod.env")


def test_import_without_namespace_stores_in_global(user: User) -> None:
    write(".env", "A=1\n")
    assert user.env("import", ".env").out == "A: dso://global/A\n"
    assert user.stored() == {"global/A": b"1"}


def test_import_reads_standard_input(user: User) -> None:
    done = user.env("import", "-", stdin=b"A=1\n")
    assert user.stored() == {"global/A": b"1"}
    assert "plaintext" not in done.err


def test_import_again_changes_nothing(user: User) -> None:
    write(".env", "A=1\nB=2\n")
    user.env("import", ".env")
    done = user.env("import", ".env")
    assert done.code == 0
    assert "2 unchanged" in done.err
    assert Vault.open().versions("global/A") == [1]


def test_import_refuses_other_values_naming_all_and_changing_nothing(user: User) -> None:
    user.store({"shop/A": b"old", "shop/B": b"old", "shop/C": b"same"})
    write(".env", "N=new\nA=hunter2\nB=hunter2\nC=same\n")
    done = user.env("import", ".env", "shop")
    assert done.code == SecretExistsError.code
    assert "shop/A\n  shop/B\n" in done.err
    assert "shop/C" not in done.err
    assert "--replace" in done.err
    assert "hunter2" not in done.err
    assert user.stored() == {"shop/A": b"old", "shop/B": b"old", "shop/C": b"same"}


def test_import_with_replace_keeps_the_former_value_as_a_version(user: User) -> None:
    user.store({"global/A": b"old"})
    write(".env", "A=new\n")
    assert user.env("import", ".env", "--replace").code == 0
    vault = Vault.open()
    assert [vault.get("global/A", version).reveal() for version in vault.versions("global/A")] == [b"new", b"old"]


BAD = b"OK=1\nEMPTY=\nNAME[0]=hunter2\nINHERITED\nLATIN=hunter2\xe9\nNUL=hunter2\x00\n=hunter2\nCAF\xc3\x89=1\n"


def test_import_names_everything_it_cannot_store_and_stores_nothing(user: User) -> None:
    write(".env", BAD + b"LARGE=" + b"x" * (1 << 20) + b"y\n")
    done = user.env("import", ".env")
    assert done.code == EnvFileError.code
    named = [line for line in done.err.splitlines() if line.startswith("  line ")]
    places = ["2: EMPTY", "3: 'NAME[0]'", "4: INHERITED", "5: LATIN", "6: NUL", "7: ", "8: 'CAFÉ'", "9: LARGE"]
    assert [line.startswith(f"  line {place}") for line, place in zip(named, places, strict=True)] == [True] * 8
    assert "OK" not in done.err
    assert "hunter2" not in done.err
    assert "--skip-empty" in done.err
    assert user.stored() == {}


def test_import_with_skip_empty_leaves_out_variables_without_value(user: User) -> None:
    write(".env", "A=1\nB=\nC=''\nD\nE=2\n")
    done = user.env("import", ".env", "--skip-empty")
    assert "2 new, 3 left out" in done.err
    assert done.out == "A: dso://global/A\nE: dso://global/E\n"
    assert user.stored() == {"global/A": b"1", "global/E": b"2"}


def test_import_keeps_dollar_signs_and_says_which_values_compose_would_expand(user: User) -> None:
    write(".env", "A=x\nURL=http://$A\nPRICE='5$A'\nWORD=pa$$word\nSIGN=5$\nESC=\"\\$A\"\n")
    done = user.env("import", ".env")
    assert "$ expressions: URL, WORD;" in done.err
    assert "--interpolate --replace" in done.err
    stored = user.stored()
    assert stored["global/URL"] == b"http://$A"
    assert stored["global/WORD"] == b"pa$$word"
    assert stored["global/PRICE"] == b"5$A"
    assert stored["global/ESC"] == b"$A"


def test_import_no_interpolate_is_a_choice_that_needs_no_note(user: User) -> None:
    write(".env", "A=$X\n")
    assert "expressions" not in user.env("import", ".env", "--no-interpolate").err
    assert user.stored() == {"global/A": b"$X"}


def test_import_interpolate_stores_what_compose_makes_of_it(user: User) -> None:
    user.monkeypatch.setenv("FROM_ENV", "env")
    write(".env", "A=x\nURL=$A/${FROM_ENV}/${NOT_SET:-default}/$$\nFROM_ENV\n")
    done = user.env("import", ".env", "--interpolate")
    assert "expressions" not in done.err
    assert user.stored() == {"global/A": b"x", "global/URL": b"x/env/default/$", "global/FROM_ENV": b"env"}


def test_import_interpolate_refuses_variables_that_are_not_set(user: User) -> None:
    """Compose would warn and take nothing: half a password that nobody notices."""
    write(".env", "OK=1\nPASSWORD=hunter2$Hunter2\nB=$C\nB=2\n")
    done = user.env("import", ".env", "--interpolate")
    assert done.code == EnvFileError.code
    assert "  line 2: PASSWORD takes a variable that is not set\n" in done.err
    assert "line 3" not in done.err  # a later line decides
    assert "unter2" not in done.err
    assert user.stored() == {}


def test_import_says_which_variables_are_set_twice(user: User) -> None:
    write(".env", "A=1\nB=1\nA=2\n")
    assert "last one counts: A\n" in user.env("import", ".env").err
    assert user.stored() == {"global/A": b"2", "global/B": b"1"}


def test_import_dry_run_tells_and_stores_nothing(user: User) -> None:
    user.store({"global/OLD": b"1", "global/SAME": b"1"})
    before = user.stored()
    write(".env", "NEW=1\nOLD=2\nSAME=1\nNONE=\n")
    done = user.env("import", ".env", "--dry-run", "--replace", "--skip-empty")
    assert [line.split(maxsplit=1) for line in done.out.splitlines()[1:]] == [
        ["global/NEW", "new"],
        ["global/OLD", "changed"],
        ["global/SAME", "unchanged"],
        ["global/NONE", "left out"],
    ]
    assert user.stored() == before
    assert user.env("import", ".env", "--dry-run", "--skip-empty").code == SecretExistsError.code


def test_import_quotes_names_that_yaml_reads_as_something_else(user: User) -> None:
    write(".env", "on=1\n1=1\nNULL=1\n_a=1\n-x=1\na.b-c=1\n")
    assert [line.partition(": ")[0] for line in user.env("import", ".env").out.splitlines()] == [
        '"on"',
        '"1"',
        '"NULL"',
        "_a",
        '"-x"',
        "a.b-c",
    ]


@pytest.mark.parametrize("content", ["", "# nothing\n", "A=\n"])
def test_import_of_a_file_that_sets_nothing_is_an_error(user: User, content: str) -> None:
    write(".env", content)
    assert user.env("import", ".env", "--skip-empty").code == EnvFileError.code


def test_import_of_a_syntax_error_names_file_and_line(user: User) -> None:
    write(".env", "A=1\nB='hunter2\n")
    done = user.env("import", ".env")
    assert done.code == EnvFileError.code
    assert ".env, line 2: " in done.err
    assert "hunter2" not in done.err
    assert user.stored() == {}


@pytest.mark.parametrize("namespace", ["", "a/b", "dso://a", "a b", ".."])
def test_import_refuses_what_is_no_namespace(user: User, namespace: str) -> None:
    write(".env", "A=1\n")
    assert user.env("import", ".env", namespace).code == UsageError.code


def test_import_of_a_missing_file_or_a_directory_says_so(user: User) -> None:
    assert user.env("import", "none.env").code == FileAccessError.code
    assert user.env("import", ".").code == FileAccessError.code


def test_import_without_a_vault_says_how_to_make_one(user: User) -> None:
    os.unlink(paths.vault_file())
    write(".env", "A=1\n")
    done = user.env("import", ".env")
    assert done.code == VaultNotFoundError.code
    assert "docker dso init" in done.err


# export


def test_export_writes_a_file_that_imports_to_the_same_bytes(user: User) -> None:
    values = {
        "A": b"plain",
        "B": b" a 'b' \"c\" $D ${E} $$ \\n \\",
        "C": b"\r\n\n\t#x # y",
        "D.e-f": "é\ufeff\u2028".encode(),
    }
    user.store({f"shop/{name}": value for name, value in values.items()})
    user.store({"other/X": b"1"})
    done = user.env("export", "shop")
    assert (done.code, done.err) == (0, "")
    assert user.env("import", "-", "copy", "--interpolate", stdin=done.out.encode()).code == 0
    stored = user.stored()
    assert {name: stored[f"copy/{name}"] for name in values} == values
    assert "copy/X" not in stored


def test_export_json(user: User) -> None:
    user.store({"shop/A": b"1\n$", "shop/db/B": "é\x00".encode()})
    assert json.loads(user.env("export", "shop", "--format", "json").out) == {"A": "1\n$", "db/B": "é\x00"}


def test_export_names_everything_it_cannot_write_and_writes_nothing(user: User) -> None:
    user.store({"shop/A": b"hunter2", "shop/db/B": b"hunter2", "shop/C": b"hunter2\x00", "shop/D": b"hunter2\xff"})
    for target in ([], ["-o", "x.env"]):
        done = user.env("export", "shop", *target)
        assert done.code == UnsuitableValueError.code
        assert done.out == ""
        assert all(f"\n  shop/{name} " in done.err for name in ("db/B", "C", "D"))
        assert "shop/A" not in done.err
        assert "hunter2" not in done.err
        assert not os.path.exists("x.env")


def test_export_json_names_what_is_not_text(user: User) -> None:
    user.store({"shop/A": b"1", "shop/D": b"\xff"})
    done = user.env("export", "shop", "--format", "json")
    assert (done.code, done.out) == (UnsuitableValueError.code, "")
    assert "shop/D is not UTF-8 text" in done.err


def test_export_to_a_file_only_its_owner_can_read(user: User) -> None:
    user.store({"shop/A": b"1"})
    old = os.umask(0)
    try:
        done = user.env("export", "shop", "-o", "x.env")
    finally:
        os.umask(old)
    assert (done.code, done.out) == (0, "")
    assert stat.S_IMODE(os.stat("x.env").st_mode) == 0o600
    assert "plaintext" in done.err
    with open("x.env", "rb") as stream:
        assert stream.read() == b"A=1\n"


def test_export_refuses_an_existing_file_unless_forced(user: User) -> None:
    user.store({"shop/A": b"1"})
    write("x.env", "precious")
    os.chmod("x.env", 0o644)
    done = user.env("export", "shop", "-o", "x.env")
    assert done.code == FileExistsRefusedError.code
    assert "--force" in done.err
    with open("x.env", "rb") as stream:
        assert stream.read() == b"precious"
    assert user.env("export", "shop", "-o", "x.env", "--force").code == 0
    with open("x.env", "rb") as stream:
        assert stream.read() == b"A=1\n"
    assert stat.S_IMODE(os.stat("x.env").st_mode) == 0o600


def test_export_never_replaces_a_device(user: User) -> None:
    user.store({"shop/A": b"1"})
    os.mkfifo("pipe")
    assert user.env("export", "shop", "-o", "pipe", "--force").code == FileAccessError.code
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_export_of_an_unknown_namespace_names_the_nearest(user: User) -> None:
    user.store({"shop/A": b"1"})
    done = user.env("export", "shopp")
    assert done.code == SecretNotFoundError.code
    assert "'shop'" in done.err
