"""Put the release together: dist/dso-VERSION-linux-ARCH.tar.gz, and install.sh and `latest` for the server beside it.

docs/releasing.md says what is in it, how it is signed and how to publish it. `make dist` calls this, with everything
built; the same inputs give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from build.release import archive, bundled, glibc, latest, sbom, signing

ROOT = Path(__file__).resolve().parent.parent.parent
VERSION = (ROOT / "VERSION").read_text(encoding="ascii").strip()
NEWEST_GLIBC = (2, 28)
SCRIPTS = ("install.sh", "uninstall.sh")
GENERATED = (("man.py", "man"), ("completions.py", "completions"))


def main(words: list[str]) -> None:
    """Check the binaries, lay the tree out, sign it and pack it."""
    parser = argparse.ArgumentParser(prog="build/release/dist.py", description=__doc__)
    parser.add_argument("--venv", required=True, help="the environment that the binaries were frozen in")
    parser.add_argument("--interpreter", required=True, help="what build/release/interpreter.sh printed")
    parser.add_argument("--work", required=True, help="a directory for the tree")
    parser.add_argument("--output", required=True, help="where the tarball goes")
    parser.add_argument("binaries", nargs="+")
    args = parser.parse_args(words)
    binaries = {os.path.basename(path): path for path in args.binaries}
    for name, path in binaries.items():
        refuse_needy(name, glibc.needs_of(path))
    release = bundled.Release(args.venv, args.interpreter)
    refuse_unaccepted(release.to_accept)
    tree = os.path.join(args.work, f"dso-{VERSION}-linux-{platform.machine()}")
    shutil.rmtree(tree, ignore_errors=True)
    key = release_key(args.work)
    when = commit_time()
    lay_out(tree, binaries, signing.public_key(key))
    describe(tree, binaries, release, when)
    sums = os.path.join(tree, "SHA256SUMS")
    text = archive.checksums(tree)
    Path(sums).write_text(text, encoding="ascii")
    signing.sign(key, sums)
    publish(tree, args.output, when, key)


def refuse_needy(name: str, needs: list[glibc.Needs]) -> None:
    """SystemExit if a binary would not run on the oldest systems it is for."""
    for one in needs:
        if one.glibc > NEWEST_GLIBC:
            version = ".".join(map(str, one.glibc))
            raise SystemExit(
                f"{name}: {one.name} needs glibc {version}, and releases run on 2.28: see docs/releasing.md"
            )
    for needer, libraries in glibc.missing_libraries(needs).items():
        raise SystemExit(f"{name}: {needer} needs {', '.join(sorted(libraries))}, which not every machine has")


def refuse_unaccepted(found: list[str]) -> None:
    """SystemExit if sources are not Debian's newest, or nobody knows, and DSO_ACCEPT_SOURCES does not name them."""
    accepted = os.environ.get("DSO_ACCEPT_SOURCES", "").split()
    missing = [one for one in found if one not in accepted]
    if missing:
        raise SystemExit(
            "no release is made of these, unless they are named (docs/releasing.md):\n"
            f'DSO_ACCEPT_SOURCES="{" ".join(missing)}"'
        )


def release_key(work: str) -> str:
    """The path of the private key: DSO_SIGNING_KEY, else of one that nobody trusts, and that is said."""
    path = os.environ.get("DSO_SIGNING_KEY", "")
    if path:
        return path
    path = os.path.join(work, "throw-away-key.pem")
    signing.throw_away_key(path)
    print(
        "dist: DSO_SIGNING_KEY is not set: this tarball is signed with a THROW-AWAY KEY. It is for trying out;\n"
        f"dist: only the install.sh made with it accepts it. Do not publish it. The key is {path}",
        file=sys.stderr,
    )
    return path


def commit_time() -> int:
    """Seconds of SOURCE_DATE_EPOCH, else of the commit; files are dated with it, whatever was changed since."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    return int(subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, check=True).stdout)


def lay_out(tree: str, binaries: dict[str, str], public_key: str) -> None:
    """What of the tree is ours."""
    for name, path in binaries.items():
        archive.install(path, f"{tree}/bin/{name}")
    for unit in sorted((ROOT / "installer" / "systemd").glob("dso-*.*")):
        archive.install(str(unit), f"{tree}/systemd/{unit.name}")
    archive.install(str(ROOT / "installer" / "sysusers.d" / "dso.conf"), f"{tree}/sysusers.d/dso.conf")
    for name in SCRIPTS:
        script = fill_in((ROOT / "installer" / name).read_text(encoding="utf-8"), public_key)
        Path(tree, name).write_text(script, encoding="utf-8")
        os.chmod(f"{tree}/{name}", 0o755)
    archive.install(str(ROOT / "VERSION"), f"{tree}/VERSION")
    for licence in sorted(ROOT.glob("LICENSE*")):
        archive.install(str(licence), f"{tree}/{licence.name}")
    for script, directory in GENERATED:
        subprocess.run([sys.executable, ROOT / "build" / script, f"{tree}/{directory}"], check=True)


def fill_in(script: str, public_key: str) -> str:
    """A script with the release key, and the URL it is published at if DSO_PUBLISH_URL says so."""
    url = os.environ.get("DSO_PUBLISH_URL", "")
    filled = script.replace("@RELEASE_KEY@", public_key)
    return filled.replace("@BASE_URL@", url) if url else filled


def describe(tree: str, binaries: dict[str, str], release: bundled.Release, when: int) -> None:
    """What of the tree is about others: licences and the bill of materials."""
    contents = {name: release.content(path) for name, path in binaries.items()}
    for name, path in bundled.licences(release, contents):
        archive.install(path, f"{tree}/licenses/{name}")
        os.chmod(f"{tree}/licenses/{name}", 0o644)
    sums = {line[66:]: line[:64] for line in archive.checksums(f"{tree}/bin").splitlines()}
    text = sbom.render(release, VERSION, when, sums, contents)
    Path(tree, "sbom.cdx.json").write_text(text, encoding="utf-8")


def publish(tree: str, output: str, when: int, key: str) -> None:
    """The files that go to a server."""
    os.makedirs(output, exist_ok=True)
    target = os.path.join(output, f"{os.path.basename(tree)}.tar.gz")
    archive.pack(tree, target, when)
    archive.install(f"{tree}/install.sh", f"{output}/install.sh")
    Path(output, "latest").write_bytes(latest.render(VERSION, key, time.time()))  # of today, whenever the commit was
    print(f"dist: {target}, {os.path.getsize(target) / 1e6:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
