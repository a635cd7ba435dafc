"""Write the hashes of everything that pip may take into requirement files: `hashes.py FILE...`, or `make hashes`.

A file lists `NAME==VERSION`; comments and order stay. For each the index is asked, by pip itself, which file it would
take for every CPython, glibc and processor that DSO is built with. Nothing is downloaded: from now on each download has
to fit what the index says now. A file whose name starts with `sdist` lists source packages, the others wheels.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROCESSORS = ("x86_64", "aarch64")
# Wheels are for a glibc and newer ones. With each of these as the newest pip may choose another file.
GLIBCS = (28, 31, 36, 41)
OLDER_GLIBCS = (5, 12, 17, 24, 26, 27, 28, 31, 34, 35, 36, 38, 39, 40, 41)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)==([^\s\\]+)")


def main(paths: list[str]) -> int:
    """Renew the files."""
    for path in map(Path, paths):
        lines = entries(path.read_text())
        wanted = [line for line in lines if _REQUIREMENT.match(line)]
        found: dict[str, set[str]] = {}
        for options in _sources() if path.name.startswith("sdist-") else _wheels():
            for name, sha256 in _ask(wanted, options):
                found.setdefault(name, set()).add(sha256)
        path.write_text("".join(_entry(line, found) for line in lines))
    return 0


def entries(text: str) -> list[str]:
    """The lines of a requirement file, each requirement without its hashes."""
    lines = text.replace("\\\n", " ").splitlines()
    return [match[0] if (match := _REQUIREMENT.match(line)) else line for line in lines]


def _entry(line: str, found: dict[str, set[str]]) -> str:
    match = _REQUIREMENT.match(line)
    if match is None:
        return line + "\n"
    return " \\\n    ".join([line, *(f"--hash=sha256:{one}" for one in sorted(found[_normal(match[1])]))]) + "\n"


def _wheels() -> list[list[str]]:
    found = []
    for python in PYTHONS:
        for processor in PROCESSORS:
            for newest in GLIBCS:
                tags = [f"manylinux_2_{minor}_{processor}" for minor in reversed(OLDER_GLIBCS) if minor <= newest]
                platforms = [f"--platform={tag}" for tag in [*tags, f"manylinux2014_{processor}", f"linux_{processor}"]]
                found.append(["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms])
    return found


def _sources() -> list[list[str]]:
    return [["--no-binary=:all:"]]


def _ask(wanted: list[str], options: list[str]) -> list[tuple[str, str]]:
    """(name, SHA-256) of the file that pip would take for each requirement."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.json")
        requirements = Path(directory, "requirements.txt")
        requirements.write_text("\n".join(wanted))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        only_say = ["--dry-run", "--no-deps", "--ignore-installed", "--target", f"{directory}/none"]
        subprocess.run([*pip, *only_say, *options, "--report", str(report), "-r", str(requirements)], check=True)
        installed = json.loads(report.read_text())["install"]
    return [
        (_normal(one["metadata"]["name"]), one["download_info"]["archive_info"]["hashes"]["sha256"])
        for one in installed
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
