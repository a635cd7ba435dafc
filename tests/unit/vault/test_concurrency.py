"""Many processes at once lose nothing."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from dso.secret import SecretValue
from dso.vault.store import Vault
from tests.support.process import started

ROOT = str(Path(__file__).parents[3])
COMMAND = "import sys; from dso.cli.main import main; sys.exit(main(['docker-dso', *sys.argv[1:]]))"


@pytest.fixture
def start():
    """Start the command line; what a test leaves running ends with it."""
    with ExitStack() as stack:
        yield lambda *args: stack.enter_context(
            started([sys.executable, "-c", COMMAND, *args], stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        )


def test_fifty_concurrent_sets_lose_nothing(vault_file, start):
    writers = [start("secret", "set", f"shop/key{number}") for number in range(50)]
    for number, writer in enumerate(writers):
        writer.stdin.write(b"value %d" % number)
        writer.stdin.close()
    for writer in writers:
        errors = writer.stderr.read()
        writer.stderr.close()
        assert writer.wait() == 0, errors
    vault = Vault.open()
    assert {name: vault.get(name).reveal() for name in vault.names()} == {
        f"shop/key{number}": b"value %d" % number for number in range(50)
    }


def test_concurrent_sets_of_one_secret_are_all_counted(vault_file, start):
    writers = [start("secret", "set", "shop/key") for _ in range(8)]
    for number, writer in enumerate(writers):
        writer.communicate(b"value %d" % number)
        assert writer.returncode == 0
    assert Vault.open().versions("shop/key") == [8, 7, 6, 5, 4, 3]


def test_readers_beside_a_writer_always_see_a_whole_vault(vault_file, start):
    writers = [start("secret", "set", f"shop/key{number}") for number in range(6)]
    for writer in writers:
        writer.stdin.write(b"x" * 10_000)
        writer.stdin.close()
    while any(writer.poll() is None for writer in writers):
        Vault.open().verify()
    for writer in writers:
        writer.stderr.close()
        assert writer.returncode == 0
    with Vault.edit() as vault:
        vault.set("shop/last", SecretValue(b"1"))
    assert len(Vault.open().names()) == 7
