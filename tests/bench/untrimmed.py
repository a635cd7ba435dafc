"""The comparison "before trimming": what PyInstaller makes of DSO's programs when it is left alone.

One file, with whatever its analysis and its own hooks find, compressed. Nothing of build/specs is used: no list of
excluded modules, no hooks and no loader of ours. It is made with the interpreter of everyday builds: that of releases
comes without a shared library, which PyInstaller's own boot loader needs.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from tests.support.process import PYTHON, ROOT, environment, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DIRECTORY = os.path.join(ROOT, ".build", "untrimmed")

# The classes that the launchers in dso/entry start, with the modules they are in.
PROVIDERS = {
    "vault": ("dso.providers.hashicorp", "HashicorpProvider"),
    "aws": ("dso.providers.aws", "AwsProvider"),
    "azure": ("dso.providers.azure", "AzureProvider"),
    "huawei": ("dso.providers.huawei", "HuaweiProvider"),
}

# A launcher as it would be without a spec of ours: the real ones look for data where only our specs put it.
_LAUNCHER = """\
import sys

from {module} import {provider}
from dso.providers.process import main

if __name__ == "__main__":
    main({provider}, sys.argv)
"""


def launcher(name: str) -> str:
    """The program that is frozen, as text."""
    kind = name.removeprefix("dso-provider-")
    if kind in PROVIDERS:
        module, provider = PROVIDERS[kind]
        return _LAUNCHER.format(module=module, provider=provider)
    with open(os.path.join(ROOT, "dso", "entry", name.replace("-", "_") + ".py"), encoding="utf-8") as file:
        return file.read()


def freeze_command(name: str) -> list[str]:
    """PyInstaller with nothing but the places of its files."""
    places = {"distpath": "bin", "specpath": "work", "workpath": "work"}
    options = [f"--{option}={os.path.join(DIRECTORY, place)}" for option, place in places.items()]
    freeze = [PYTHON, "-m", "PyInstaller", "--onefile", "--noconfirm", "--log-level=ERROR", "--paths", ROOT]
    return [*freeze, *options, "--name", name, os.path.join(DIRECTORY, f"{name}.py")]


def build(name: str, tell: Callable[[str], None]) -> str:
    """Path of the binary, which is made anew if anything it is made from has changed; `tell` says so to the user."""
    binary, record = os.path.join(DIRECTORY, "bin", name), os.path.join(DIRECTORY, f"{name}.digest")
    program, command = launcher(name), freeze_command(name)
    made_from = digest((program, *command, os.path.realpath(PYTHON)), sources())
    if os.path.exists(binary) and _content(record) == made_from:
        return binary
    tell(f"freezing {name} with PyInstaller's defaults, for comparison: up to a minute, the next time none")
    os.makedirs(DIRECTORY, exist_ok=True)
    _write(os.path.join(DIRECTORY, f"{name}.py"), program)
    settings = {"PYINSTALLER_CONFIG_DIR": os.path.join(DIRECTORY, "config"), "PYTHONHASHSEED": "0"}
    run(command, env=environment(extra=settings), timeout=1800)
    _write(record, made_from)
    return binary


def sources() -> list[str]:
    """The files that all binaries depend on."""
    found = [os.path.join(ROOT, "VERSION"), os.path.join(ROOT, "build", "requirements.txt")]
    for directory, _, names in os.walk(os.path.join(ROOT, "dso")):
        found += [os.path.join(directory, name) for name in names if name.endswith(".py")]
    return sorted(found)


def digest(words: Iterable[str], files: Iterable[str]) -> str:
    """A digest that another word, another content and another file name change."""
    total = hashlib.sha256()
    for word in words:
        total.update(b"%d " % len(word.encode()) + word.encode())
    for path in files:
        with open(path, "rb") as file:
            total.update(f"{path}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _content(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
