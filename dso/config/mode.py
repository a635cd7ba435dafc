"""Which mode runs, and why."""

from __future__ import annotations

import os

from dso import paths
from dso.errors import NotConfiguredError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOCAL = "local"
CLOUD = "cloud"


class Mode:
    """The mode that runs.

    `name` is "local" or "cloud"; `reason` says what decided; `config` is the cloud configuration's
    path, if there is one; `warning` is set when a vault exists as well and is not used.
    """

    __slots__ = ("config", "name", "reason", "warning")

    def __init__(self, name: str, reason: str, config: str | None = None, warning: str = "") -> None:
        self.name = name
        self.reason = reason
        self.config = config
        self.warning = warning

    def announcement(self) -> str:
        """The first line of `up`."""
        return f"Running in {self.name.upper()} mode ({self.reason})"


def detect_mode(
    flag: str | None,
    config: str | None,
    environment: Mapping[str, str] = os.environ,
    exists: Callable[[str], bool] = os.path.exists,
) -> Mode:
    """Choose by priority: `--mode`, `-c`, DSO_MODE, DSO_FORCE_MODE, system, project configuration, vault.

    Args:
        flag: the value of `--mode`, or None.
        config: the value of `-c/--config`, or None; naming a configuration means Cloud Mode.
        environment: where DSO_MODE and DSO_FORCE_MODE are looked up.
        exists: whether a path exists.

    Raises:
        NotConfiguredError: nothing says which mode.
        UsageError: `--mode=local` with `-c`, or a variable with an unknown mode.
    """
    if flag == LOCAL and config:
        raise UsageError("--mode=local and -c/--config contradict each other: a configuration file means Cloud Mode")
    if flag:
        return Mode(flag, "--mode", _configuration(config, exists) if flag == CLOUD else None)
    if config:
        return Mode(CLOUD, f"-c {config}", config)
    for variable in (paths.MODE_VARIABLE, paths.FORCE_MODE_VARIABLE):
        wanted = environment.get(variable, "")
        if wanted:
            if wanted not in (LOCAL, CLOUD):
                raise UsageError(f"{variable}={wanted!r} is no mode", hint=f"set it to {LOCAL} or {CLOUD}, or unset it")
            return Mode(wanted, variable, _configuration(None, exists) if wanted == CLOUD else None)
    return _auto_detect(exists)


def _configuration(named: str | None, exists: Callable[[str], bool]) -> str | None:
    candidates = (named,) if named else (paths.SYSTEM_CONFIG, paths.PROJECT_CONFIG)
    return next((path for path in candidates if path and exists(path)), named)


def _auto_detect(exists: Callable[[str], bool]) -> Mode:
    vault = paths.vault_file()
    for shown, path in (
        (paths.SYSTEM_CONFIG, paths.SYSTEM_CONFIG),
        ("./" + paths.PROJECT_CONFIG, paths.PROJECT_CONFIG),
    ):
        if exists(path):
            warning = ""
            if exists(vault):
                warning = f"{shown} and {_home_relative(vault)} both exist: cloud wins; use --mode=local for the vault"
            return Mode(CLOUD, f"auto-detected: {shown}", path, warning)
    if exists(vault):
        return Mode(LOCAL, f"auto-detected: {_home_relative(vault)}")
    raise NotConfiguredError(
        "DSO is not set up: found no "
        f"{paths.SYSTEM_CONFIG}, no ./{paths.PROJECT_CONFIG} and no {_home_relative(vault)}",
        hint="for secrets on this machine:        docker dso init\n"
        "for secrets from a cloud provider:  sudo docker dso system setup",
    )


def _home_relative(path: str) -> str:
    home = paths.home()
    return "~" + path[len(home) :] if path.startswith(home + "/") else path
