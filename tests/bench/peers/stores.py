"""The same secrets in the store of each program, and the commands that use them.

Each is set up as its documentation says, with a key that needs no passphrase: nobody waits for a person.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from tests.support.process import environment, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.bench.peers.install import Peer

KEY = "bench@example.invalid"


class Command(NamedTuple):
    """A command: how the page writes it, and what is run."""

    label: str
    argv: tuple[str, ...]


class Store(NamedTuple):
    """A program with secrets in its store.

    Attributes:
        read: the command that prints one secret by its name, None where the program has no such thing.
        child: the command that runs another one with all secrets in its environment, or None.
        close: ends what the program left running.
    """

    peer: Peer
    env: Mapping[str, str]
    directory: str
    read: Callable[[str], Command] | None = None
    child: Callable[[Sequence[str]], Command] | None = None
    close: Callable[[], object] = lambda: None


def age(peer: Peer, directory: str, secrets: Mapping[str, str]) -> Store:
    """One encrypted file with all secrets: age has no smaller piece to read."""
    env = environment(directory)
    _write(directory, "secrets.env", _lines(secrets))
    public = _age_key(os.path.join(os.path.dirname(peer.path), "age-keygen"), directory, env)
    run([peer.path, "-r", public, "-o", "secrets.age", "secrets.env"], env=env, cwd=directory)
    command = Command("age -d -i key.txt secrets.age", (peer.path, "-d", "-i", "key.txt", "secrets.age"))
    return Store(peer, env, directory, lambda _name: command)


def sops(peer: Peer, keygen: str, directory: str, secrets: Mapping[str, str]) -> Store:
    """A YAML file for reading and a .env file for children, as each is meant for; `keygen` is age-keygen's path."""
    env = {**environment(directory), "SOPS_AGE_KEY_FILE": os.path.join(directory, "key.txt")}
    public = _age_key(keygen, directory, env)
    _write(directory, "plain.yaml", "".join(f"{name}: {value}\n" for name, value in secrets.items()))
    _write(directory, "plain.env", _lines(secrets))
    for kind in ("yaml", "env"):
        done = run([peer.path, "encrypt", "--age", public, f"plain.{kind}"], env=env, cwd=directory)
        _write(directory, f"secrets.{kind}", done.out)

    def read(name: str) -> Command:
        words = ("decrypt", "--extract", f'["{name}"]', "secrets.yaml")
        return Command("sops decrypt --extract", (peer.path, *words))

    def child(argv: Sequence[str]) -> Command:
        return Command("sops exec-env", (peer.path, "exec-env", os.path.join(directory, "secrets.env"), " ".join(argv)))

    return Store(peer, env, directory, read, child)


def password_store(peer: Peer, maker: Peer, directory: str, secrets: Mapping[str, str], *options: str) -> Store:
    """A store of pass, which `maker` makes, read by pass or by a program of its kind.

    The agent of gpg goes on running, as it does for a user; `options` are those of `show` that print the value alone.
    """
    private = os.path.join(directory, "gnupg")
    os.mkdir(private, 0o700)
    places = {"GNUPGHOME": private, "PASSWORD_STORE_DIR": os.path.join(directory, "store")}
    env = {**environment(directory), **places}
    make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", KEY, "default", "default", "never"]
    run(make, env=env)
    run([maker.path, "init", KEY], env=env)
    for name, value in secrets.items():
        run([maker.path, "insert", "--multiline", name], input=value + "\n", env=env)

    def read(name: str) -> Command:
        return Command(" ".join((peer.name, "show", *options)), (peer.path, "show", *options, name))

    def close() -> None:
        run(["gpgconf", "--kill", "all"], env=env, check=False)

    return Store(peer, env, directory, read, close=close)


def dotenvx(peer: Peer, directory: str, secrets: Mapping[str, str]) -> Store:
    """A .env file with each value encrypted."""
    env = environment(directory)
    _write(directory, ".env", _lines(secrets))
    run([peer.path, "encrypt"], env=env, cwd=directory)
    file = os.path.join(directory, ".env")

    def child(argv: Sequence[str]) -> Command:
        return Command("dotenvx run --", (peer.path, "run", "-f", file, "--", *argv))

    return Store(peer, env, directory, lambda name: Command("dotenvx get", (peer.path, "get", name)), child)


def summon(peer: Peer, directory: str, secrets: Mapping[str, str]) -> Store:
    """summon has no store: its provider here is `cat`, of a file for each secret, the least that a provider can do."""
    for name, value in secrets.items():
        _write(directory, name, value)
    listed = "".join(f"{name}: !var {os.path.join(directory, name)}\n" for name in secrets)
    _write(directory, "secrets.yml", listed)
    file = os.path.join(directory, "secrets.yml")

    def child(argv: Sequence[str]) -> Command:
        return Command("summon -p cat", (peer.path, "-p", "/bin/cat", "-f", file, *argv))

    return Store(peer, environment(directory), directory, child=child)


def _age_key(keygen: str, directory: str, env: Mapping[str, str]) -> str:
    """Makes key.txt; returns its public key."""
    run([keygen, "-o", "key.txt"], env=env, cwd=directory)
    return run([keygen, "-y", "key.txt"], env=env, cwd=directory).out.strip()


def _lines(secrets: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in secrets.items())


def _write(directory: str, name: str, text: str) -> None:
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
