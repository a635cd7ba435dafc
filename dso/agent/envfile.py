"""The variables that systemd gives root's agent, for a `--check` that root runs in a shell.

`dso-agent.service` has `EnvironmentFile=/etc/dso/agent.env`; without it a check would miss every
credential. The file is read as a `.env` file in which nothing is expanded, which agrees with systemd
on plain values and on those in single quotes.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from dso.config import dotenv
from dso.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def missing_variables(path: str, environment: Mapping[str, str], *, owner: int = 0) -> dict[str, str]:
    """The variables of a file that are not set in `environment`; none if there is no such file.

    Raises:
        ConfigError: it cannot be read, or somebody else than `owner` could have written it.
        EnvFileError: a line is faulty; the value is not told.
    """
    try:
        # Not blocked by a FIFO, which then is no regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="it holds the agent's variables") from None
    try:
        _check(path, os.fstat(descriptor), owner)
        with open(descriptor, "rb", closefd=False) as file:
            text = dotenv.decode(file.read())
    finally:
        os.close(descriptor)
    found = dotenv.parse(text, source=path)
    return {name: value for name, value in found.items() if name and name not in environment}


def _check(path: str, about: os.stat_result, owner: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise ConfigError(f"{path} is no regular file", hint="it holds the agent's variables, one NAME=value a line")
    if about.st_uid != owner or about.st_mode & _OTHERS_MAY_WRITE:
        raise ConfigError(
            f"{path} can be written by others than root, who could choose where secrets come from",
            hint=f"see what stands in it, then: `sudo chown root:root {path} && sudo chmod 600 {path}`",
        )
