"""docs/vault-format.md is enough to read a vault: this reader was written from it, and uses nothing of DSO."""

import hashlib
import json
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

VECTORS = json.loads((Path(__file__).parents[2] / "fixtures" / "vault" / "vectors.json").read_text())["vectors"]


def _blake2b(data, key=b""):
    return hashlib.blake2b(data, key=key, digest_size=32).digest()


def _slot_key(slot, key, passphrase):
    if slot["type"] == "keyfile":
        return key
    if slot["type"] != "passphrase":
        return None
    _, version, parameters, salt = slot["kdf"].split("$")
    assert version == "v=19"
    numbers = {name: int(value) for name, value in (part.split("=") for part in parameters.split(","))}
    kdf = Argon2id(
        salt=bytes.fromhex(salt), length=32, iterations=numbers["t"], lanes=numbers["p"], memory_cost=numbers["m"]
    )
    return kdf.derive(passphrase)


def _data_key(header, slot, slot_key):
    binding = "\0".join((header["id"], slot["id"], slot["type"], slot["kdf"])).encode()
    private = X25519PrivateKey.from_private_bytes(_blake2b(b"dso-vault/1 slot\0" + binding, slot_key))
    ephemeral, sealed = bytes.fromhex(slot["ephemeral"]), bytes.fromhex(slot["sealed"])
    shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    public = private.public_key().public_bytes_raw()
    wrapping = _blake2b(b"dso-vault/1 wrap\0" + ephemeral + public + binding, shared)
    return AESGCM(wrapping).decrypt(sealed[:12], sealed[12:], binding), public


def _read(data, key, passphrase):
    """{name: {number: value}}"""
    line, newline, rest = data.partition(b"\n")
    header = json.loads(line)
    body, _, after = line.rpartition(b',"sum":"')
    assert after == _blake2b(body).hex().encode() + b'"}'
    for slot in header["slots"]:
        slot_key = _slot_key(slot, key, passphrase)
        if slot_key is None:
            continue
        try:
            data_key, public = _data_key(header, slot, slot_key)
        except InvalidTag:
            continue
        content = AESGCM(data_key).decrypt(rest[:12], rest[12:], line + newline)
        first, _, rest = content.partition(b"\n")
        meta = json.loads(first)
        assert meta["slots"][slot["id"]] == public.hex()
        assert len(bytes.fromhex(meta["mac_key"])) == 32
        index, values = rest[: meta["index"]], rest[meta["index"] :]
        entries = [json.loads(entry) for entry in index.splitlines()]
        assert len(entries) == meta["count"]
        return {
            name: {str(number): values[offset : offset + size] for number, _, offset, size in versions}
            for name, versions in entries
        }
    raise AssertionError("no slot opens")


@pytest.mark.parametrize("vector", [v for v in VECTORS if "secrets" in v], ids=lambda vector: vector["name"])
def test_vault_is_read_by_the_specification_alone(vector):
    found = _read(b64decode(vector["vault"]), bytes.fromhex(vector["key"]), vector["passphrase"].encode())
    assert found == {
        name: {number: b64decode(value) for number, value in versions.items()}
        for name, versions in vector["secrets"].items()
    }
