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
    path, if there is one, and `found` tells that it lies in the current directory and nobody named it: it is then
    the word of whoever wrote the project. `warning` is set when a vault exists as well and is not used.
    """

    __slots__ = ("config", "found", "name", "reason", "warning")

    def __init__(
        self, name: str, reason: str, config: str | None = None, warning: str = "", *, found: bool = False
    ) -> None:
        self.name = name
        self.reason = reason
        self.config = config
        self.warning = warning
        self.found = found

    @property
    def grants(self) -> bool:
        """Whether projects get only what their directory was granted; Cloud Mode has `access:`, by user, instead."""
        return self.name == LOCAL

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
        return Mode(flag, "--mode", config) if config else _chosen(flag, "--mode", exists)
    if config:
        return Mode(CLOUD, f"-c {config}", config)
    for variable in (paths.MODE_VARIABLE, paths.FORCE_MODE_VARIABLE):
        wanted = environment.get(variable, "")
        if wanted:
            if wanted not in (LOCAL, CLOUD):
                raise UsageError(f"{variable}={wanted!r} is no mode", hint=f"set it to {LOCAL} or {CLOUD}, or unset it")
            return _chosen(wanted, variable, exists)
    return _auto_detect(exists)


def _chosen(name: str, reason: str, exists: Callable[[str], bool]) -> Mode:
    """A mode that the user chose, without a configuration."""
    places = (paths.SYSTEM_CONFIG, paths.PROJECT_CONFIG) if name == CLOUD else ()
    config = next((path for path in places if exists(path)), None)
    return Mode(name, reason, config, found=config == paths.PROJECT_CONFIG)


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
            return Mode(CLOUD, f"auto-detected: {shown}", path, warning, found=path == paths.PROJECT_CONFIG)
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
