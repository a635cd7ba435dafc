"""The test vectors of docs/vault-format.md."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest

from dso import errors
from dso.vault.format import parse_header
from dso.vault.store import Vault
from dso.vault.unlock import Unlock

FIXTURES = Path(__file__).parents[2] / "fixtures" / "vault"
VECTORS = json.loads((FIXTURES / "vectors.json").read_text())["vectors"]


@pytest.fixture(autouse=True)
def _private_directory(tmp_path, monkeypatch):
    """Where the key file of a vector is: both it and the passphrase are at hand, as no variable gives them."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)


def _open(vector):
    data = b64decode(vector["vault"])
    descriptor = os.open("vector.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, vector["key"].encode())
    os.close(descriptor)
    unlock = Unlock(
        environment={},
        key_file="vector.key",
        ask=lambda _prompt: vector["passphrase"].encode(),
    )
    return Vault.from_bytes(data, parse_header(data, "vault.enc"), "vault.enc", unlock)


@pytest.mark.parametrize("vector", [v for v in VECTORS if "secrets" in v], ids=lambda vector: vector["name"])
def test_good_vector_opens_with_every_version_of_every_secret(vector):
    vault = _open(vector)
    found = {
        name: {str(number): vault.get(name, number).reveal() for number in vault.versions(name)}
        for name in vault.names()
    }
    assert found == {
        name: {number: b64decode(value) for number, value in versions.items()}
        for name, versions in vector["secrets"].items()
    }
    assert vault.verify() == (len(found), sum(map(len, found.values())))
    assert len(vault.mac_key) == 32


@pytest.mark.parametrize("vector", [v for v in VECTORS if "error" in v], ids=lambda vector: vector["name"])
def test_bad_vector_is_refused_with_its_error_and_advice(vector):
    with pytest.raises(getattr(errors, vector["error"])) as refusal:
        _open(vector)
    assert refusal.value.hint


def test_vectors_are_what_the_generator_writes():
    generator = subprocess.run(
        [sys.executable, str(FIXTURES / "generate.py"), "--check"],
        env={"PYTHONPATH": str(FIXTURES.parents[2])},
        check=False,
    )
    assert generator.returncode == 0
