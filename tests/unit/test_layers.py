"""The layers of the package, and what may be imported where; read from the source, nothing is run."""

from __future__ import annotations

import sys

import pytest

from tests.support.imports import Import, all_imports, imports_of

# Imports point down only: from a part to one on a lower level.
LEVELS = {
    **dict.fromkeys(["dso.errors", "dso.secret", "dso.paths", "dso.version"], 0),
    "dso.system": 1,
    "dso.protocol": 2,
    **dict.fromkeys(["dso.config", "dso.compose", "dso.grants", "dso.vault", "dso.delivery"], 3),
    "dso.host": 4,  # setting up and examining this machine, by means of all of those
    **dict.fromkeys(["dso.cli", "dso.agent", "dso.providers"], 5),
    "dso.entry": 6,
}
SIDEWAYS = {
    ("dso.secret", "dso.errors"),
    ("dso.compose", "dso.config"),  # COMPOSE_FILE may stand in .env, which dso.config.dotenv reads
}

# What a module may import at its top: the interpreter has these at hand, or finds them at once.
CHEAP = {"__future__", "errno", "fcntl", "os", "posix", "sys", "time", "typing"}
CHEAP |= {"_signal", "_frozen_importlib", "_frozen_importlib_external", "stat"}  # `os` imports stat itself
TOP_EXCEPTIONS = {("dso.cli.parser", "argparse")}  # itself only imported where a command line is parsed

# Start once and run for long: what they import costs nobody a moment of every command.
DAEMONS = {"dso.agent", "dso.providers", "dso.entry.dso_agent", "dso.entry.dso_provider"}

# What no other module may import anywhere: slow, and there are shorter ways (docs/decisions).
BANNED = {
    *["asyncio", "concurrent", "contextlib", "dataclasses", "getpass", "inspect", "logging", "multiprocessing"],
    *["pathlib", "pickle", "secrets", "shutil", "sqlite3", "subprocess", "tempfile", "tkinter", "unittest", "yaml"],
    *["azure", "boto3", "docker", "hvac", "huaweicloudsdkcore", "requests", "importlib"],
    *["aiohttp", "botocore"],
}
BANNED_EXCEPTIONS = {("dso.config.document", "yaml")}  # dso.yaml is read by its own grammar, only in Cloud Mode

# The first code of a frozen binary (build/bootloader/main.c), and what that imports when it cannot go on: until its
# finder is in place no extension module can be loaded, and whatever it imports each start has to.
EARLY = ["dso.entry.lazy"]
WHEN_IT_FAILS = ["dso.entry.failure", "dso.errors"]


def part_of(module: str) -> str:
    """`dso.vault.store` belongs to `dso.vault`, `dso.errors` stands for itself."""
    return ".".join(module.split(".")[:2])


def upward(found: list[Import]) -> list[Import]:
    def wrong(one: Import) -> bool:
        importer, imported = part_of(one.importer), part_of(one.name)
        if importer in (imported, "dso") or (importer, imported) in SIDEWAYS:
            return False
        return LEVELS.get(importer, -1) <= LEVELS.get(imported, sys.maxsize)

    return [one for one in found if part_of(one.name).startswith("dso") and wrong(one)]


def dear_at_top(found: list[Import]) -> list[Import]:
    def cheap(one: Import) -> bool:
        return one.name in CHEAP or one.name.startswith("dso") or (one.importer, one.name) in TOP_EXCEPTIONS

    return [one for one in found if one.at_top and not cheap(one) and not in_daemon(one)]


def in_daemon(one: Import) -> bool:
    return any(one.importer == part or one.importer.startswith((f"{part}.", f"{part}_")) for part in DAEMONS)


def banned(found: list[Import]) -> list[Import]:
    def allowed(one: Import) -> bool:
        return in_daemon(one) or (one.importer, one.name) in BANNED_EXCEPTIONS

    return [one for one in found if one.name.split(".")[0] in BANNED and not allowed(one)]


def not_yet_there(found: list[Import]) -> list[Import]:
    def there(one: Import) -> bool:
        if one.importer in WHEN_IT_FAILS or not one.at_top:
            return one.name in {"__future__", "_archive", *WHEN_IT_FAILS} or _is_at_hand(one.name)
        return _is_at_hand(one.name)

    return [one for one in found if one.importer in EARLY + WHEN_IT_FAILS and not there(one)]


def _is_at_hand(module: str) -> bool:
    """In every interpreter, before any of ours."""
    return module in {"sys", "posix", "_frozen_importlib", "_frozen_importlib_external"}


def listed(found: list[Import]) -> str:
    return "\n".join(str(one) for one in found)


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return all_imports()


def test_every_part_has_its_level(found: list[Import]) -> None:
    assert {part_of(one.importer) for one in found} - {"dso"} <= LEVELS.keys()


def test_imports_point_down_only(found: list[Import]) -> None:
    assert not upward(found), listed(upward(found))


def test_module_tops_import_only_what_is_cheap(found: list[Import]) -> None:
    assert not dear_at_top(found), listed(dear_at_top(found))


def test_slow_modules_are_imported_nowhere(found: list[Import]) -> None:
    assert not banned(found), listed(banned(found))


def test_the_first_code_of_a_binary_imports_only_what_is_there_already(found: list[Import]) -> None:
    assert not not_yet_there(found), listed(not_yet_there(found))


@pytest.mark.parametrize(
    ("check", "importer", "source"),
    [
        (upward, "dso.system.files", "from dso.vault.store import Vault"),
        (upward, "dso.system.files", "def f():\n    import dso.cli.main"),
        (upward, "dso.vault.store", "from dso.delivery import plan"),
        (upward, "dso.errors", "from dso import paths"),
        (upward, "dso.errors", "from dso.paths import home"),
        (upward, "dso.cli.main", "from dso.entry.lazy import install"),
        (upward, "dso.new.module", "from dso.errors import DsoError"),
        (upward, "dso.agent.main", "from dso.cli.main import main"),
        (upward, "dso.protocol.agent", "from dso.config.model import Settings"),
        (dear_at_top, "dso.vault.store", "import json"),
        (dear_at_top, "dso.vault.store", "class C:\n    from re import compile"),
        (dear_at_top, "dso.vault.store", "try:\n    import cryptography\nexcept ImportError: pass"),
        (banned, "dso.system.proc", "def f():\n    import subprocess"),
        (banned, "dso.cli.main", "async def f():\n    from asyncio.streams import open_connection"),
        (not_yet_there, "dso.entry.lazy", "from __future__ import annotations"),
        (not_yet_there, "dso.entry.lazy", "import dso.errors"),
        (not_yet_there, "dso.entry.lazy", "def f():\n    import fcntl"),
        (not_yet_there, "dso.entry.failure", "import os"),
        (not_yet_there, "dso.errors", "import re"),
    ],
)
def test_the_checks_find_offenders(check: object, importer: str, source: str) -> None:
    assert len(check(imports_of(importer, source))) == 1  # type: ignore[operator]


def test_imports_for_type_checkers_do_not_count() -> None:
    source = "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import subprocess\nimport os"
    assert [one.name for one in imports_of("dso.vault.store", source)] == ["os"]
