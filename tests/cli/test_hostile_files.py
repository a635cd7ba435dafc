"""No file decides how much memory or time a command spends: huge files, pipes, devices, costly key slots, bombs.

Every command runs with little memory to spare: one that believed the file would fail otherwise than it should.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dso import errors
from dso.vault.format import build_header
from dso.vault.slots import PASSPHRASE, Slot, argon2id_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.home import DsoHome
    from tests.support.process import Result

MEMORY = 400 << 20  # address space: several times what a command needs
HUGE = 40 << 30
DAMAGED, UNREADABLE = errors.VaultDamagedError.code, errors.FileAccessError.code


@pytest.fixture
def vault(home: DsoHome) -> DsoHome:
    """A user with one secret."""
    home.run("init")
    home.run("secret", "set", "shop/key", input=b"value")
    return home


def refused(home: DsoHome, code: int, *words: str, told: str = "", input: bytes = b"") -> Result:  # noqa: A002
    done = home.command("prlimit", f"--as={MEMORY}", home.plugin, *words, input=input, check=False)
    assert done.returncode == code, done.err
    assert done.err.count("Error: ") == 1
    assert "Traceback" not in done.err
    assert "MemoryError" not in done.err
    assert told in done.err
    return done


def sparse(path: str) -> None:
    with open(path, "ab") as file:
        file.truncate(HUGE)


def device(path: str) -> None:
    os.symlink("/dev/zero", path)


def bound_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


PLACES: dict[str, tuple[Callable[[str], None], int]] = {
    "a sparse file of 40 GiB": (sparse, DAMAGED),
    "a pipe that nobody writes to": (os.mkfifo, UNREADABLE),
    "a directory": (os.mkdir, UNREADABLE),
    "a device without an end": (device, UNREADABLE),
    "a socket": (bound_socket, UNREADABLE),
}
COMMANDS = [
    ("secret", "get", "shop/key"),
    ("secret", "set", "shop/key"),
    ("vault", "check"),
    ("vault", "backup", "copy"),
    ("init",),
]


@pytest.mark.parametrize("what", PLACES)
def test_vault_that_is_no_file_of_a_vaults_size_is_refused_at_once(vault: DsoHome, what: str) -> None:
    make, code = PLACES[what]
    os.unlink(vault.vault_file)
    make(vault.vault_file)
    for words in COMMANDS:
        refused(vault, code, *words, told="vault", input=b"x")
    assert not os.path.exists(f"{vault.path}/copy")


@pytest.mark.parametrize("what", ["a sparse file of 40 GiB", "a device without an end"])
def test_backup_that_is_too_large_to_be_one_is_not_restored(vault: DsoHome, what: str) -> None:
    before = Path(vault.vault_file).read_bytes()
    PLACES[what][0](f"{vault.path}/backup")
    refused(vault, DAMAGED, "vault", "restore", "backup", told="larger than 256 MiB")
    assert Path(vault.vault_file).read_bytes() == before


def test_restore_replaces_a_vault_that_became_huge_and_keeps_it(vault: DsoHome) -> None:
    vault.run("vault", "backup", "copy")
    os.truncate(vault.vault_file, HUGE)
    vault.command("prlimit", f"--as={MEMORY}", vault.plugin, "vault", "restore", "copy")
    assert vault.run("secret", "get", "shop/key").stdout == b"value"
    assert os.stat(f"{vault.vault_file}.before-restore").st_size == HUGE


def test_backup_comes_out_of_a_pipe(vault: DsoHome) -> None:
    vault.run("vault", "backup", "copy")
    vault.command("bash", "-c", f"'{vault.plugin}' vault restore <(cat copy)")
    assert vault.run("secret", "get", "shop/key").stdout == b"value"


@pytest.mark.parametrize("what", ["a sparse file of 40 GiB", "a device without an end"])
def test_files_that_are_too_large_for_what_they_should_hold_are_not_read(vault: DsoHome, what: str) -> None:
    PLACES[what][0](f"{vault.path}/file")
    refused(vault, errors.InvalidSecretError.code, "secret", "set", "x", "--from-file", "file", told="1 MiB")
    refused(vault, UNREADABLE, "env", "import", "file", "shop", told="more than")
    if what != "a device without an end":
        os.chmod(f"{vault.path}/file", 0o600)
    refused(vault, UNREADABLE, "vault", "add-key", "--keyfile", "file")
    vault.env["DSO_PASSPHRASE_FILE"] = "file"
    os.unlink(vault.vault_file)
    refused(vault, UNREADABLE, "init", "--passphrase", told="DSO_PASSPHRASE_FILE")


def test_standard_input_without_an_end_is_not_read_to_it(vault: DsoHome) -> None:
    for words, code in (
        (("secret", "set", "x"), errors.InvalidSecretError.code),
        (("env", "import", "-", "shop"), UNREADABLE),
    ):
        command = " ".join(words)
        done = vault.command("sh", "-c", f"'{vault.plugin}' {command} </dev/zero", check=False)
        assert (done.returncode, "more than" in done.err) == (code, True)


def test_variables_that_double_at_every_line_are_an_error(vault: DsoHome) -> None:
    lines = ["A0=0123456789", *(f"A{one + 1}=$A{one}$A{one}" for one in range(60))]
    Path(vault.path, "bomb.env").write_text("\n".join(lines))
    refused(vault, errors.EnvFileError.code, "env", "import", "--interpolate", "bomb.env", "shop", told="too much text")


def costly(home: DsoHome, *parameters: tuple[int, int]) -> None:
    """Replace the vault by one whose slots are for passphrases and ask for that much: (memory in KiB, passes)."""
    slots = [
        Slot(
            f"{at:08x}",
            PASSPHRASE,
            1,
            argon2id_text(memory, passes, 1, bytes(16)),
            ephemeral=bytes(32),
            sealed=bytes(60),
        )
        for at, (memory, passes) in enumerate(parameters)
    ]
    Path(home.vault_file).write_bytes(build_header("0" * 32, tuple(slots)).line + bytes(1000))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ([(1 << 20, 4)] * 16, "absurd amount of memory or time"),
        ([(256 << 10, 4)] * 16, "together ask for an absurd amount of time"),
    ],
    ids=["16 slots of 1 GiB", "16 slots that each are just within the bounds"],
)
def test_slots_that_ask_for_too_much_cost_nothing(vault: DsoHome, parameters: list[tuple[int, int]], told: str) -> None:
    costly(vault, *parameters)
    phrase = Path(vault.path, "phrase")
    phrase.write_bytes(b"correct horse")
    phrase.chmod(0o600)
    vault.env["DSO_PASSPHRASE_FILE"] = str(phrase)
    for words in (("secret", "get", "shop/key"), ("vault", "check")):
        refused(vault, errors.WrongKeyError.code, *words, told=told)


@pytest.mark.parametrize("what", ["a sparse file of 40 GiB", "a pipe that nobody writes to"])
def test_project_configuration_that_is_huge_or_a_pipe_is_an_error(vault: DsoHome, what: str) -> None:
    directory = Path(vault.path, "project")
    directory.mkdir()
    PLACES[what][0](f"{directory}/dso.yaml")
    done = vault.command("prlimit", f"--as={MEMORY}", vault.plugin, "fetch", "x", cwd=str(directory), check=False)
    assert done.returncode == errors.ConfigError.code, done.err
