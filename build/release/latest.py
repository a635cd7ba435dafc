"""`latest`, by which install.sh knows what to download: a version, how long that holds, and a signature.

    latest.py VERSION --output DIRECTORY

writes DIRECTORY/latest anew, signed with the key in DSO_SIGNING_KEY: before the former one has run out, or to name
another version. docs/releasing.md says when.

The first three lines are what is signed, with the release key as SHA256SUMS is (build.release.signing). They are of one
form, which no list of checksums has, so that neither can be given out for the other.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from build.release import signing

DAYS = 180  # for which it holds; whoever publishes has to renew it, and whoever keeps it back cannot do so for longer
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+([-.+][A-Za-z0-9.]+)?")  # as install.sh has it


def render(version: str, private_key: str, now: float, days: int = DAYS) -> bytes:
    """The file: version, since, until, signature, and the request for OpenSSL 1.1.1.

    Args:
        version: of the release that is to be installed from now on.
        private_key: the path of the release key.
        now: seconds since the epoch.
        days: how long it holds.
    """
    if not _VERSION.fullmatch(version):
        raise SystemExit(f"{version} is not a version")
    since = datetime.fromtimestamp(now, UTC)
    until = since + timedelta(days=days)
    statement = f"{version}\nsince {since:%Y-%m-%d}\nuntil {until:%Y-%m-%d}\n".encode("ascii")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "statement")
        Path(path).write_bytes(statement)
        signing.sign(private_key, path)
        signature = base64.b64encode(Path(f"{path}.sig").read_bytes())
        return statement + b"signature " + signature + b"\n" + Path(f"{path}.csr").read_bytes()


def main(words: list[str]) -> None:
    """Sign that a version is the latest."""
    parser = argparse.ArgumentParser(prog="build/release/latest.py", description=__doc__)
    parser.add_argument("version", help="what is to be installed from now on")
    parser.add_argument("--output", required=True, help="the directory for it")
    parser.add_argument("--days", type=int, default=DAYS, help="how long it holds")
    args = parser.parse_args(words)
    key = os.environ.get("DSO_SIGNING_KEY", "")
    if not key:
        raise SystemExit("DSO_SIGNING_KEY is not set: it is the path of the key that the release is signed with")
    content = render(args.version, key, time.time(), args.days)
    os.makedirs(args.output, exist_ok=True)
    path = os.path.join(args.output, "latest")
    Path(f"{path}.new").write_bytes(content)
    os.replace(f"{path}.new", path)
    print(content.split(b"signature ", 1)[0].decode("ascii"), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
