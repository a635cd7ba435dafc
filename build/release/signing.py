"""The release key, and signatures with it, by the `openssl` of the machine (3.0 or newer).

Ed25519 over SHA256SUMS, as `openssl pkeyutl -rawin` verifies it. OpenSSL 1.1.1, on systems that DSO still installs on,
cannot verify a file that way, but it can verify a certificate request: so there is one besides, signed with the same
key, whose subject is the SHA-256 of SHA256SUMS.
"""

from __future__ import annotations

import hashlib
import os
import subprocess


def throw_away_key(path: str) -> str:
    """Make a key at a path, unless there is one already; only its owner may read it."""
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        new = f"{path}.new"  # what was interrupted leaves no key that is none
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        _openssl("genpkey", "-algorithm", "ed25519", "-out", new)
        os.replace(new, path)
    return path


def public_key(private_key: str) -> str:
    """SubjectPublicKeyInfo in base64, as install.sh has it; SystemExit if this is no Ed25519 key."""
    pem = _openssl("pkey", "-in", private_key, "-pubout").decode("ascii")
    body = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    if "ED25519" not in _openssl("pkey", "-in", private_key, "-noout", "-text").decode("utf-8", "replace"):
        raise SystemExit(f"{private_key} is no Ed25519 key: openssl genpkey -algorithm ed25519 makes one")
    return body


def sign(private_key: str, sums: str) -> None:
    """Write SHA256SUMS.sig and SHA256SUMS.csr beside SHA256SUMS. The same input gives the same bytes."""
    _openssl("pkeyutl", "-sign", "-inkey", private_key, "-rawin", "-in", sums, "-out", f"{sums}.sig")
    with open(sums, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    options = ("-new", "-config", "/dev/null", "-key", private_key, "-subj", f"/CN={digest}", "-out", f"{sums}.csr")
    _openssl("req", *options)


def _openssl(*words: str) -> bytes:
    done = subprocess.run(["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"openssl {words[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout
