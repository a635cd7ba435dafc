"""A user of DSO: a scratch HOME with docker-dso as a CLI plugin, from source or frozen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dso import paths
from tests.support.binaries import binary, directory
from tests.support.process import PYTHON, ROOT, Result, environment, run
from tests.support.tty import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

FROZEN = os.path.join(directory("frozen"), "docker-dso")
VARIANTS = ("source", "frozen")

# -P: the current directory of a test must not be able to shadow a module.
_SOURCE_PLUGIN = f"""#!/bin/sh
exec {PYTHON} -P -c 'import runpy, sys; sys.path.insert(0, "{ROOT}")
runpy.run_module("dso.entry.docker_dso", run_name="__main__", alter_sys=True)' "$@"
"""


class DsoHome:
    """A HOME of its own under `path`, with `docker dso` and whatever plugins the tester has there.

    `variant` is `source`, `frozen` or `release`; `env` is added to the environment of everything this user runs.
    `allow` is what any project of theirs may have without a grant (DSO_ALLOW, as CI jobs have it): most tests are not
    about grants and store secrets from outside of the project that uses them. Those that are give "".
    """

    def __init__(
        self, path: str, variant: str = "frozen", env: Mapping[str, str] | None = None, *, allow: str = "*"
    ) -> None:
        self.path = path
        self.variant = variant
        self.env = {**({paths.ALLOW_VARIABLE: allow} if allow else {}), **(env or {})}
        self.plugin = os.path.join(path, ".docker", "cli-plugins", "docker-dso")
        os.makedirs(os.path.dirname(self.plugin))
        self._keep_plugins_of_the_tester()
        if variant != "source":
            os.symlink(binary("docker-dso", variant), self.plugin)
        else:
            with open(self.plugin, "x") as file:
                file.write(_SOURCE_PLUGIN)
            os.chmod(self.plugin, 0o755)

    def _keep_plugins_of_the_tester(self) -> None:
        """Compose may be installed in the tester's own ~/.docker, which this HOME hides."""
        theirs = os.path.expanduser("~/.docker/cli-plugins")
        for name in os.listdir(theirs) if os.path.isdir(theirs) else []:
            if name != "docker-dso":
                os.symlink(os.path.join(theirs, name), os.path.join(os.path.dirname(self.plugin), name))

    @property
    def dso_dir(self) -> str:
        return os.path.join(self.path, ".dso")

    @property
    def vault_file(self) -> str:
        return os.path.join(self.dso_dir, "vault.enc")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command this user runs."""
        return environment(self.path, {**self.env, **(extra or {})})

    def command(  # what subprocess.run takes
        self,
        *argv: str,
        input: bytes | str | None = None,  # noqa: A002  # subprocess.run's name for it
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> Result:
        """Run any command as this user; in HOME unless `cwd` is given."""
        return run(argv, input=input, env=self.environment(env), cwd=cwd or self.path, check=check, timeout=timeout)

    def run(
        self,
        *args: str,
        input: bytes | str | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> Result:
        """`docker dso ARGS`."""
        return self.command("docker", "dso", *args, input=input, env=env, cwd=cwd, check=check, timeout=timeout)

    def dso(
        self,
        *args: str,
        input: bytes | str | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> Result:
        """`docker-dso ARGS`: the same program without Docker in front of it."""
        return self.command(self.plugin, *args, input=input, env=env, cwd=cwd, check=check, timeout=timeout)

    def terminal(self, *argv: str, env: Mapping[str, str] | None = None, cwd: str | None = None) -> Terminal:
        """Start any command as this user on a terminal of its own; use it in a `with`."""
        return Terminal(argv, env=self.environment(env), cwd=cwd or self.path)
