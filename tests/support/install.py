"""A place to run the installer in: /usr/local, HOME and the temporary directory are directories of the test's own.

host = Host(directory)
host.install(release)                       # as root, with /usr/local of its own, in a mount name space
host.install(release, user=True)            # as an ordinary user
host.files()                                # what is there now
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING, NamedTuple

from tests.support.process import Result, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.release import Release

USER = 61234  # has no name, and needs none
SHELLS = ("dash", "busybox sh")

# OpenSSL 1.1.1 as far as it matters: no -rawin, and `req -verify` that succeeds whatever it finds.
OPENSSL_111 = """
case "$1 $2" in
"pkeyutl -help") /usr/bin/openssl "$@" 2>&1 | grep -v rawin ;;
pkeyutl*) exit 1 ;;
*) /usr/bin/openssl "$@" 2>&1 | sed 's/^Certificate request self-signature //'; exit 0 ;;
esac
"""

_CURL = """
echo "curl $*" >>{log}
while [ $# -gt 1 ]; do [ "$1" != -o ] || to=$2; shift; done
exec cp "{served}/${{1##*/}}" "$to"
"""
_MOUNT = 'mount --bind "$1" /usr/local && shift && exec "$@"'


class File(NamedTuple):
    """What is at a path: its mode and its content."""

    mode: int
    content: bytes


class Host:
    """Directories `local` (/usr/local), `home` (of USER) and `tmp`, which has to be empty after every run."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.local, self.home, self.tmp = (os.path.join(directory, name) for name in ("local", "home", "tmp"))
        for path in (self.local, self.home, self.tmp):
            os.mkdir(path)
            os.chmod(path, 0o755)
        os.chown(self.home, USER, USER)
        os.chmod(self.tmp, 0o1777)
        self.path = os.environ["PATH"]

    def run(
        self,
        *args: str,
        user: bool = False,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        input: bytes | None = None,  # noqa: A002  # subprocess.run's name for it
    ) -> Result:
        """Run a program, as root with our /usr/local or as USER."""
        become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if user else []
        space = ["unshare", "--mount", "sh", "-c", _MOUNT, "sh", self.local]
        own = {"HOME": self.home if user else "/nowhere", "TMPDIR": self.tmp, "PATH": self.path, **(env or {})}
        return run([*space, *become, *args], env=own, check=check, input=input)

    def install(
        self,
        release: Release,
        *args: str,
        shell: str = "dash",
        user: bool = False,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Result:
        """`install.sh --offline TARBALL ARGS`; it leaves nothing in the temporary directory, whatever it does."""
        command = [*shell.split(), release.script, "--offline", release.tarball, *args]
        result = self.run(*command, user=user, env=env, check=check)
        assert os.listdir(self.tmp) == [], result.err
        return result

    def pretend(self, **programs: str) -> None:
        """Put scripts in front of PATH: programs that say what those of another machine would."""
        directory = f"{self.directory}/programs"
        os.makedirs(directory, exist_ok=True)
        for name, script in programs.items():
            with open(f"{directory}/{name}", "w") as file:
                file.write(f"#!/bin/sh\n{script}\n")
            os.chmod(f"{directory}/{name}", 0o755)
        if not self.path.startswith(directory):
            self.path = f"{directory}:{self.path}"

    def serve(self, *releases: Release) -> str:
        """Publish releases, the last of them as `latest`, for a `curl` that notes in `log` how it was called.

        Returns:
            The directory that is published.
        """
        served = f"{self.directory}/served"
        os.makedirs(served, exist_ok=True)
        for each in releases:
            for name in os.listdir(each.directory):
                shutil.copy(f"{each.directory}/{name}", served)
        self.pretend(curl=_CURL.format(log=f"{self.directory}/log", served=served))
        return served

    def files(self, root: str = "") -> dict[str, File]:
        """Every file below a directory (`local`), by its path in it, but for the lock of a killed installer.

        Links and other things are failures.
        """
        root = root or self.local
        found = {}
        for directory, directories, names in os.walk(root):
            for name in [*directories, *names]:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode) or name == ".lock":
                    continue
                assert stat.S_ISREG(status.st_mode), path
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = File(stat.S_IMODE(status.st_mode), file.read())
        return found

    def directories(self, root: str = "") -> list[str]:
        """Every directory below another (`local`)."""
        root = root or self.local
        return sorted(os.path.relpath(path, root) for path, _, _ in os.walk(root) if path != root)

    def reset(self, files: Mapping[str, File] | None = None) -> None:
        """Let /usr/local hold exactly these files."""
        for name in os.listdir(self.local):
            shutil.rmtree(os.path.join(self.local, name))
        for name, file in (files or {}).items():
            path = os.path.join(self.local, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as opened:
                opened.write(file.content)
            os.chmod(path, file.mode)
