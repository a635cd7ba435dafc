"""The test vectors of docs/vault-format.md."""

import json
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


def _open(vector):
    data = b64decode(vector["vault"])
    unlock = Unlock(
        environment={"DSO_MASTER_KEY": vector["key"]},
        key_file="/nonexistent/master.key",
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
