"""The native functions are the public ones, reached by a shorter way."""

import hashlib
import subprocess
import sys
from pathlib import Path

from dso.system import native

ROOT = str(Path(__file__).resolve().parents[3])


def test_classes_are_the_very_objects_of_the_public_path():
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    assert native.aesgcm() is AESGCM
    assert native.argon2id() is Argon2id
    private = native.x25519_private(bytes(range(32)))
    assert isinstance(private, X25519PrivateKey)
    assert type(private) is type(X25519PrivateKey.generate())
    assert isinstance(native.x25519_public(private.public_key().public_bytes_raw()), X25519PublicKey)


def test_public_path_is_the_fall_back(monkeypatch):
    def gone():
        raise ImportError

    monkeypatch.setattr(native, "_openssl", gone)
    test_classes_are_the_very_objects_of_the_public_path()


def test_x25519_gives_both_sides_one_secret():
    one, other = native.x25519_private(bytes(range(32))), native.x25519_private(bytes(range(1, 33)))
    publics = [native.x25519_public(key.public_key().public_bytes_raw()) for key in (one, other)]
    assert one.exchange(publics[1]) == other.exchange(publics[0])


def test_blake2b_is_hashlibs():
    for key in (b"", b"k" * 32):
        assert native.blake2b_256(b"data", key) == hashlib.blake2b(b"data", key=key, digest_size=32).digest()


def test_reading_a_secret_imports_neither_json_nor_hashlib_nor_the_public_cryptography(tmp_path):
    script = (
        "import os, sys\n"
        "from dso.vault.store import Vault\n"
        "from dso.vault.names import parse_ref\n"
        "Vault.open().get(parse_ref('shop/x').path)\n"
        "print(*sys.modules)"
    )
    command = "import sys; from dso.cli.main import main; sys.exit(main(['docker-dso', *sys.argv[1:]]))"
    environment = {"HOME": str(tmp_path)}
    for args, given in ((["init"], b""), (["secret", "set", "shop/x"], b"value")):
        subprocess.run(
            [sys.executable, "-c", command, *args],
            input=given,
            env=environment,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True, capture_output=True)
    imported = set(done.stdout.decode().split())
    assert "cryptography.hazmat.bindings._rust" in imported
    assert not imported & {
        "json",
        "re",
        "hashlib",
        "typing",
        "enum",
        "dataclasses",
        "tempfile",
        "subprocess",
        "argparse",
        "cryptography.hazmat.primitives",
        "cryptography.exceptions",
        "cryptography.utils",
        "dso.vault.edit",
    }
