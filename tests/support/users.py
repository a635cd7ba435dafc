"""Other users of the machine: real uids and groups, and names for them that only one program sees.

    alice = User("alice", 40001, groups=(DSO_GROUP,))
    with AgentWithUsers(users=[alice], groups={"dso": DSO_GROUP}) as agent:
        as_user(alice, lambda: agent.resolve("dso://a/b"))

Needs root. Nothing of the machine's own user database changes: the agent gets one of its own, by a mount
that nobody else sees.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.paths import PLUGIN_USER_PREFIX
from tests.support.agent import Agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

DSO_GROUP = 40100


class User(NamedTuple):
    """A user; `groups` are those its processes have, `listed` those the user database has of it."""

    name: str
    uid: int
    groups: tuple[int, ...] = ()
    listed: tuple[int, ...] = ()


def as_user(user: User, what: Callable[[], Any]) -> Any:
    """Call a function in a child that is this user; its result has to be JSON. An OSError comes back as one."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            _become(user)
            answer = _answer(what)
            with os.fdopen(writer, "w") as stream:
                stream.write(answer)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        answer = json.loads(stream.read() or '{"failed": "the child ended without an answer"}')
    os.waitpid(child, 0)
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    assert "failed" not in answer, answer["failed"]
    return answer["result"]


def _become(user: User) -> None:
    os.setgroups(user.groups)
    os.setresgid(user.uid, user.uid, user.uid)
    os.setresuid(user.uid, user.uid, user.uid)


def _answer(what: Callable[[], Any]) -> str:
    try:
        return json.dumps({"result": what()})
    except OSError as error:
        return json.dumps({"errno": error.errno})
    except BaseException:  # noqa: BLE001  # pytest must not go on in the child
        return json.dumps({"failed": traceback.format_exc()})


_WITH_DATABASE = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 && exec "$@"'


def _plugin_users() -> list[pwd.struct_passwd]:
    """Whom plugins run as."""
    return [one for one in pwd.getpwall() if one.pw_name.startswith(PLUGIN_USER_PREFIX)]


class AgentWithUsers(Agent):
    """An agent that knows these users and groups besides root."""

    def __init__(self, config: str = "", *, users: Sequence[User], groups: Mapping[str, int], **agent: Any) -> None:
        super().__init__(config, **agent)
        members: dict[int, list[str]] = {}
        for user in users:
            for group in user.listed:
                members.setdefault(group, []).append(user.name)
        with open(self.path("passwd"), "w", encoding="ascii") as file:
            file.write("root:x:0:0::/root:/bin/sh\n")
            file.writelines(
                f"{one.pw_name}:x:{one.pw_uid}:{one.pw_gid}::/nonexistent:/usr/sbin/nologin\n"
                for one in _plugin_users()
            )
            file.writelines(f"{user.name}:x:{user.uid}:{user.uid}::/:/bin/sh\n" for user in users)
        with open(self.path("group"), "w", encoding="ascii") as file:
            file.write("root:x:0:\n")
            file.writelines(f"{name}:x:{gid}:{','.join(members.get(gid, []))}\n" for name, gid in groups.items())

    def command(self, *args: str) -> list[str]:
        """Its command line, in a mount name space of its own."""
        database = [self.path("passwd"), self.path("group")]
        return ["unshare", "--mount", "sh", "-euc", _WITH_DATABASE, "sh", *database, *super().command(*args)]


@contextmanager
def while_user(user: User, what: Callable[[Callable[[], None]], Any]) -> Iterator[int]:
    """Have a child that is this user do something while the block lasts, which begins when it calls its argument.

    The child ends with the block, whatever it is at; its pid.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _become(user)
            what(lambda: (os.write(writer, b"."), None)[1])
            signal.pause()
        except BaseException:  # noqa: BLE001  # pytest must not go on in the child
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb", buffering=0) as stream:
            said = stream.read(4096)
            assert said == b".", (said or b"the child ended before it began").decode()
            yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
