"""What a ./dso.yaml that nobody named may do: name secrets; more only where the user allowed it.

Whoever wrote the project wrote that file, and DSO would let it choose whom it talks to (`agent.socket`) and send them
variables of the user's (`path: "x/${TOKEN}"`). A file that the user names with -c is their own word. The grant is to
the directory, kept with those of secrets (`dso.grants.store`).
"""

from __future__ import annotations

import os

from dso import paths
from dso.config.load import Wishes, load_project, load_socket, load_wishes, read_text
from dso.errors import NotGrantedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dso.config.model import CloudConfig

COMMAND = "docker dso allow --configuration"


def trusted_socket(config: str, *, may_ask: bool) -> str | None:
    """`agent.socket` of a file that was found, if it may choose one; None if it chooses none.

    Raises:
        NotGrantedError: it wants the socket, or variables, and was not allowed that.
        ConfigError: the file cannot be read, or what it says of the socket is faulty.
    """
    text = read_text(config)
    _check(config, text, may_ask=may_ask)
    return None if _is_socket_given() else load_socket(config, environment=os.environ, text=text)


def trusted_project(config: str, *, may_ask: bool) -> CloudConfig:
    """The configuration in a file that was found, if it may have all that it takes.

    Raises:
        NotGrantedError: it wants the agent's socket, or variables, and was not allowed that.
        ConfigError: the file is faulty.
    """
    text = read_text(config)
    _check(config, text, may_ask=may_ask)
    return load_project(config, environment=os.environ, text=text)


def wishes_of(config: str) -> Wishes:
    """What a file that was found wants and has to be allowed; ConfigError if it cannot be read."""
    return _wishes(config, read_text(config))


def described(wishes: Wishes) -> list[str]:
    """What is wanted, in words, each for a line of its own."""
    from dso.system.visible import visible

    found = [f"to choose whom DSO talks to: the socket {visible(wishes.socket)}"] if wishes.socket else []
    if wishes.variables:
        found.append(f"to send the agent what is in {', '.join(map(visible, wishes.variables))}")
    return found


def _wishes(config: str, text: str) -> Wishes:
    found = load_wishes(config, environment=os.environ, text=text)
    return found._replace(socket=None) if _is_socket_given() or _is_usual(found.socket) else found


def _is_usual(socket: str | None) -> bool:
    """Whether it is where root's agent listens, or this user's own: no choice that needs to be allowed."""
    usual = {paths.SYSTEM_SOCKET, paths.agent_socket(os.getuid())}
    return socket is None or os.path.realpath(socket) in {os.path.realpath(each) for each in usual}


def _is_socket_given() -> bool:
    """Whether the user's own word on the socket takes the place of any file's."""
    return bool(os.environ.get(paths.SOCKET_VARIABLE))


def _check(config: str, text: str, *, may_ask: bool) -> None:
    wishes = _wishes(config, text)
    if not wishes:
        return
    from dso.grants.store import Grants, grant
    from dso.system.visible import visible

    directory = os.path.dirname(os.path.abspath(config))
    found = Grants.load().at(directory)
    if found.configuration:
        return
    wanted = "".join(f"\n  {line}" for line in described(wishes))
    wanted += "".join(f"\n  (a grant that covers it does not count here: {visible(str(weak))})" for weak in found.weak)
    subject = f"{config} in {visible(directory)}"
    if may_ask and _is_agreed(f"[DSO] {subject} asks for more than secrets:{wanted}\nLet it, now and from now on?"):
        grant(directory, configuration=True)
        return
    raise NotGrantedError(
        f"{subject} was not allowed what it asks for:{wanted}",
        hint=f"if you trust it: {COMMAND}\nor name the file yourself: -c ./{config}",
    )


def _is_agreed(question: str) -> bool:
    from dso.system.terminal import agreed

    return bool(agreed(question))
