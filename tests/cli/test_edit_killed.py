"""`docker dso secret edit` that is killed leaves no plaintext, and editors of every kind can edit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.process import started
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.home import DsoHome

# Tells where the file is, and waits as an editor does for its user.
WAITING = """#!/bin/sh
echo "$$ $1" >"$HOME/editing.new"
mv "$HOME/editing.new" "$HOME/editing"
exec sleep 1000
"""


@pytest.fixture
def vault(home: DsoHome) -> DsoHome:
    home.run("init")
    home.run("secret", "set", "shop/key", input=b"one")
    return home


def editor(home: DsoHome, script: str) -> None:
    path = Path(home.path, "editor")
    path.write_text(script)
    path.chmod(0o755)
    home.env["EDITOR"] = str(path)


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["alone", "with its process group"])
def test_killed_edit_leaves_no_plaintext(vault: DsoHome, kill: Callable[[int, int], None]) -> None:
    editor(vault, WAITING)
    told = Path(vault.path, "editing")
    argv = [vault.plugin, "secret", "edit", "shop/key"]
    with started(argv, env=vault.environment(), cwd=vault.path, process_group=0) as child:
        wait_until(told.exists, "the editor starts")
        pid, path = told.read_text().split()
        assert Path(path).read_bytes() == b"one"
        try:
            kill(child.pid, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(os.path.dirname(path)), "the directory goes")
        finally:
            if kill is os.kill:
                os.kill(int(pid), signal.SIGKILL)  # the editor lives on


def test_what_an_edit_left_whose_every_process_was_killed_goes_with_the_next_command(vault: DsoHome) -> None:
    editor(vault, WAITING)
    told = Path(vault.path, "editing")
    argv = [vault.plugin, "secret", "edit", "shop/key"]
    for words in (("status",), ("secret", "edit", "shop/key"), ("system", "doctor")):
        with started(argv, env=vault.environment(), cwd=vault.path, process_group=0) as child:
            wait_until(told.exists, "the editor starts")
            path = told.read_text().split()[1]
            os.kill(watcher_of(os.path.dirname(path)), signal.SIGKILL)
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        told.unlink()
        assert os.path.exists(path)
        vault.dso(*words, env={"EDITOR": "true"}, check=False)
        assert not os.path.exists(os.path.dirname(path)), words


def watcher_of(directory: str) -> int:
    """The process that waits for the end of the edit in a directory."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-2:-1] == [directory.encode()]:
            return int(pid)
    raise AssertionError("nobody waits for the end of the edit")


@pytest.mark.parametrize(
    "script",
    [
        'printf two >"$1"',  # in place: nano, vi
        'sed -i s/one/two/ "$1"',  # a new file, renamed over the old one
        'cp "$1" "$1~"; rm "$1"; printf two >"$1"',  # the old one kept as a backup: Emacs
        # as `code --wait`: a server that was there before us does it, and the command waits for that
        'echo "$1" >"$HOME/ask.new"; mv "$HOME/ask.new" "$HOME/ask"; while [ -e "$HOME/ask" ]; do sleep 0.1; done',
    ],
    ids=["in place", "by rename", "with a backup", "through a server"],
)
def test_editors_of_every_kind_can_edit(vault: DsoHome, script: str) -> None:
    editor(vault, f"#!/bin/sh\n{script}\n")
    server = 'while [ ! -e ask ]; do sleep 0.1; done; printf two >"$(cat ask)"; rm ask'
    with started(["sh", "-c", server], cwd=vault.path):
        vault.run("secret", "edit", "shop/key")
        assert vault.run("secret", "get", "shop/key").stdout == b"two"
