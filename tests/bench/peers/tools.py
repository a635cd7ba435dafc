"""DSO and its peers with the same secrets, and the commands that are compared."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.cases import NAMESPACE, VARIANT, home_with_secrets, secret_value
from tests.bench.measure import Case, CommandFailedError, check
from tests.bench.peers import stores
from tests.bench.peers.install import Peer, get, reason
from tests.support.binaries import binary
from tests.support.process import ChildFailedError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import ExitStack

    from tests.bench.cases import Tools
    from tests.bench.peers.stores import Store
    from tests.support.home import DsoHome

NAMES = ("pass", "gopass", "gopasspw", "sops", "age", "dotenvx", "summon")
SHOW_VALUE_ALONE = {"gopasspw": ("-o",)}
SECRETS = 100
CHILD = 50


def secrets(count: int) -> dict[str, str]:
    """SECRET_00001 and so on."""
    return {f"SECRET_{number:05d}": secret_value(number) for number in range(1, count + 1)}


class Found(NamedTuple):
    """Stores by the name of their program, and why others have none."""

    stores: dict[str, Store]
    missing: dict[str, str]


def installed(tell: Callable[[str], None]) -> dict[str, Peer]:
    """Every peer, whether it can be had or not."""
    found = {}
    for name in NAMES:
        tell(f"getting {name}")
        found[name] = get(name)
    return found


def make(peers: Mapping[str, Peer], wanted: Collection[str], scratch: str, count: int, cleanup: ExitStack) -> Found:
    """The store of each wanted peer with so many secrets; what does not work here is left out, with the reason."""
    found = Found({}, {})
    for name in wanted:
        peer = peers[name]
        if peer.why:
            found.missing[name] = peer.why
            continue
        directory = os.path.join(scratch, f"{name}-{count}")
        os.mkdir(directory, 0o700)
        try:
            store = _maker(peer, peers)(directory, secrets(count))
            cleanup.callback(store.close)
            for case in read_cases({name: store}, count):
                check(case)
            for case in child_cases({name: store}):
                check_child(case)
        except (ChildFailedError, CommandFailedError, OSError) as error:
            found.missing[name] = reason(str(error))
        else:
            found.stores[name] = store
    return found


def _maker(peer: Peer, peers: Mapping[str, Peer]) -> Callable[[str, Mapping[str, str]], Store]:
    if peer.name in ("pass", "gopass", "gopasspw"):
        return lambda directory, values: stores.password_store(
            peer, peers["pass"], directory, values, *SHOW_VALUE_ALONE.get(peer.name, ())
        )
    if peer.name == "sops":
        return partial(stores.sops, peer, os.path.join(os.path.dirname(peers["age"].path), "age-keygen"))
    simple = {"age": stores.age, "dotenvx": stores.dotenvx, "summon": stores.summon}
    return partial(simple[peer.name], peer)


def read_cases(found: Mapping[str, Store], count: int) -> list[Case]:
    """Reading the secret in the middle."""
    name, value = f"SECRET_{count // 2:05d}", secret_value(count // 2)
    cases = []
    for store in found.values():
        if store.read:
            command = store.read(name)
            label = f"`{command.label}` ({count} secrets)"
            cases.append(
                Case(f"read-{store.peer.name}", label, command.argv, store.env, store.directory, value.encode())
            )
    return cases


def child_cases(found: Mapping[str, Store]) -> list[Case]:
    """`env` as a child: what it prints shows that it has the secrets."""
    last = secret_value(CHILD).encode()
    cases = []
    for store in found.values():
        if store.child:
            command = store.child(["/usr/bin/env"])
            label = f"`{command.label} env`"
            cases.append(Case(f"child-{store.peer.name}", label, command.argv, store.env, store.directory, last))
    return cases


class Dso(NamedTuple):
    """DSO's user with two vaults: one of 100 secrets, and one of the 50 that a child gets."""

    tools: Tools
    home: DsoHome
    small: DsoHome

    @classmethod
    def made(cls, scratch: str, tools: Tools) -> Dso:
        """Both vaults, opened with their key file."""
        homes = (home_with_secrets(os.path.join(scratch, f"home-{count}"), count) for count in (SECRETS, CHILD))
        return cls(tools, *homes)

    @property
    def programs(self) -> dict[str, tuple[str, ...]]:
        """docker-dso itself, and as its users feel it: through Docker."""
        return {"docker-dso": (binary("docker-dso", VARIANT),), "docker dso": (self.tools.docker, "dso")}

    def read_cases(self) -> list[Case]:
        """Reading the secret in the middle."""
        name, value = f"{NAMESPACE}/SECRET_{SECRETS // 2:05d}", secret_value(SECRETS // 2).encode()
        return [
            Case(
                f"read-{label}",
                f"`{label} secret get` ({SECRETS} secrets)",
                (*program, "secret", "get", name),
                self.home.environment(),
                self.home.path,
                value,
            )
            for label, program in self.programs.items()
        ]

    def child_cases(self) -> list[Case]:
        """DSO has no command for it: a shell evaluates what `env export` prints."""
        return [
            Case(
                f"child-{label}",
                f'`eval "$({label} env export {NAMESPACE})"; env`',
                ("/bin/sh", "-c", f'set -a; eval "$("$@" env export {NAMESPACE})"; exec env', "sh", *program),
                self.small.environment(),
                self.small.path,
                secret_value(CHILD).encode(),
            )
            for label, program in self.programs.items()
        ]


def check_child(case: Case) -> None:
    """Every secret has to be in the child's environment; raises CommandFailedError."""
    printed = run(case.argv, env=case.env, cwd=case.cwd).out.splitlines()
    missing = {f"{name}={value}" for name, value in secrets(CHILD).items()}.difference(printed)
    if missing:
        raise CommandFailedError(f"{case.label}: {len(missing)} of {CHILD} secrets are not in the environment")
