"""The vault as it grows: from 10 to 10,000 secrets."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.cases import NAMESPACE, VARIANT, home_with_secrets, secret_value
from tests.bench.curves.family import Command, Family, measured
from tests.bench.measure import Case
from tests.support.binaries import binary
from tests.support.home import DsoHome

if TYPE_CHECKING:
    from tests.bench.part import Setting

SIZES = (10, 100, 1_000, 10_000)
FLAT_TO = 1_000  # `secret get` has to be flat up to here
GET_ROUNDS = 40
ROUNDS = 8
GET = "`secret get`"


def measure(setting: Setting) -> Family:
    """Read, store and list in vaults of all sizes, and fill empty ones."""
    homes = {size: _Home.made(os.path.join(setting.scratch, f"vault-{size}"), size) for size in SIZES}
    gets = measured([_get(homes)], setting.rounds or GET_ROUNDS, setting, "vaults: get")
    others = measured([_set(homes), _list(homes), _import(homes)], setting.rounds or ROUNDS, setting, "vaults")
    return Family("vault", "The vault", "Secrets in the vault", [*gets, *others])


class _Home(NamedTuple):
    """A user with a full vault, one whose vault is empty, and a file of variables to fill it with."""

    size: int
    full: DsoHome
    empty: DsoHome

    @classmethod
    def made(cls, path: str, size: int) -> _Home:
        full = home_with_secrets(path, size)
        empty = DsoHome(path + "-empty", VARIANT)
        empty.dso("init")
        for home in (full, empty):
            shutil.copyfile(home.vault_file, home.vault_file + ".kept")
        with open(os.path.join(path, "value"), "x") as file:
            file.write(secret_value(0))
        with open(os.path.join(empty.path, "variables"), "x") as file:
            file.writelines(f"SECRET_{number:05d}={secret_value(number)}\n" for number in range(1, size + 1))
        return cls(size, full, empty)


def _restore(home: DsoHome) -> None:
    """The vault as it was; in place, so that its mode stays."""
    shutil.copyfile(home.vault_file + ".kept", home.vault_file)


def _case(key: str, home: DsoHome, size: int, words: tuple[str, ...], expect: str = "") -> Case:
    argv = (binary("docker-dso", VARIANT), *words)
    label = f"`docker-dso {words[0]} {words[1]}`, {size:,} secrets"
    return Case(f"{key}-{size}", label, argv, home.environment(), home.path, expect.encode())


def _get(homes: dict[int, _Home]) -> Command:
    words = {size: ("secret", "get", f"{NAMESPACE}/SECRET_{size // 2:05d}") for size in homes}
    cases = {
        size: _case("curve-get", home.full, size, words[size], secret_value(size // 2)) for size, home in homes.items()
    }
    return Command(GET, cases, lambda size: cases[size].argv)


def _set(homes: dict[int, _Home]) -> Command:
    words = ("secret", "set", f"{NAMESPACE}/NEW", "--from-file", "value")
    cases = {size: _case("curve-set", home.full, size, words) for size, home in homes.items()}
    return Command(
        "`secret set` of a new one", cases, lambda size: cases[size].argv, lambda size: _restore(homes[size].full)
    )


def _list(homes: dict[int, _Home]) -> Command:
    cases = {
        size: _case("curve-list", home.full, size, ("secret", "list"), "SECRET_00001") for size, home in homes.items()
    }
    return Command("`secret list`", cases, lambda size: cases[size].argv)


def _import(homes: dict[int, _Home]) -> Command:
    words = ("env", "import", "variables", NAMESPACE)
    cases = {size: _case("curve-import", home.empty, size, words, "SECRET_00001") for size, home in homes.items()}
    return Command(
        "`env import` of as many", cases, lambda size: cases[size].argv, lambda size: _restore(homes[size].empty)
    )
