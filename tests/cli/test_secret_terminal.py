"""Secrets and passphrases at a terminal: asked for, not shown, and never half stored."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from dso.errors import UsageError, WrongKeyError

if TYPE_CHECKING:
    from tests.support.home import DsoHome

VALUE = "c4n4ry typed"


@pytest.fixture
def vault(home: DsoHome) -> DsoHome:
    home.dso("init")
    return home


def test_value_is_asked_for_twice_and_not_shown(vault: DsoHome) -> None:
    with vault.terminal("docker", "dso", "secret", "set", "shop/x") as terminal:
        terminal.expect("Value for shop/x: ")
        terminal.line(VALUE)
        terminal.expect("The same again: ")
        terminal.line(VALUE)
        assert terminal.wait() == 0
        assert VALUE.encode() not in terminal.shown
    assert vault.dso("secret", "get", "shop/x").stdout == VALUE.encode()


def test_two_different_entries_store_nothing(vault: DsoHome) -> None:
    with vault.terminal(vault.plugin, "secret", "set", "shop/x") as terminal:
        terminal.expect("Value for shop/x: ")
        terminal.line("one")
        terminal.expect("The same again: ")
        terminal.line("two")
        assert terminal.wait() == UsageError.code
    assert vault.dso("secret", "list", "-q").stdout == b""


def test_interrupted_prompt_stores_nothing_and_leaves_the_terminal_as_it_was(vault: DsoHome) -> None:
    script = f"trap : INT; stty -g; {vault.plugin} secret set shop/x; echo code=$?; stty -g; echo end"
    with vault.terminal("sh", "-c", script) as terminal:
        terminal.expect("Value for shop/x: ")
        terminal.control_c()
        terminal.expect("code=")
        terminal.wait()
        shown = terminal.shown.decode().split()
    assert "130" in "".join(shown)
    settings = [word for word in shown if word.count(":") > 10]
    assert len(settings) == 2
    assert settings[0] == settings[1]
    assert vault.dso("secret", "list", "-q").stdout == b""


def test_end_of_input_at_the_prompt_is_an_empty_value(vault: DsoHome) -> None:
    with vault.terminal(vault.plugin, "secret", "set", "shop/x") as terminal:
        terminal.expect("Value for shop/x: ")
        terminal.control_d()
        terminal.expect("The same again: ")
        terminal.control_d()
        assert terminal.wait() != 0
        assert b"is empty" in terminal.shown


def test_get_adds_a_newline_on_a_terminal_only_and_not_with_n(vault: DsoHome) -> None:
    vault.dso("secret", "set", "shop/x", input="value")
    for flags, ending in (((), b"value\r\n"), (("-n",), b"value")):
        with vault.terminal("docker", "dso", "secret", "get", *flags, "shop/x") as terminal:
            assert terminal.wait() == 0
            assert terminal.shown == ending
    assert vault.run("secret", "get", "shop/x").stdout == b"value"


@pytest.mark.parametrize(("answer", "left"), [("n", b"shop/x\n"), ("", b"shop/x\n"), ("y", b"")])
def test_rm_asks_on_a_terminal(vault: DsoHome, answer: str, left: bytes) -> None:
    vault.dso("secret", "set", "shop/x", input="value")
    with vault.terminal(vault.plugin, "secret", "rm", "shop/x") as terminal:
        terminal.expect("Remove shop/x with all versions? [y/N] ")
        terminal.line(answer)
        assert terminal.wait() == (1 if left else 0)
    assert vault.dso("secret", "list", "-q").stdout == left


def test_rm_with_force_does_not_ask(vault: DsoHome) -> None:
    vault.dso("secret", "set", "shop/x", input="value")
    with vault.terminal(vault.plugin, "secret", "rm", "-f", "shop/x") as terminal:
        assert terminal.wait() == 0


def test_passphrase_vault_from_init_to_get(home: DsoHome) -> None:
    with home.terminal("docker", "dso", "init", "--passphrase") as terminal:
        terminal.expect("New passphrase: ")
        terminal.line("correct horse")
        terminal.expect("The same again: ")
        terminal.line("correct horse")
        assert terminal.wait() == 0
        assert b"correct horse" not in terminal.shown
    assert sorted(os.listdir(home.dso_dir)) == ["vault.enc", "vault.lock"]
    with home.terminal("sh", "-c", f"printf piped | {home.plugin} secret set shop/x") as terminal:
        terminal.expect("Passphrase: ")
        terminal.line("correct horse")
        assert terminal.wait() == 0
    with home.terminal("sh", "-c", f"{home.plugin} secret get shop/x | cat -v") as terminal:
        terminal.expect("Passphrase: ")
        terminal.line("wrong")
        terminal.expect("Wrong, once more: ")
        terminal.line("correct horse")
        assert terminal.wait() == 0
        assert terminal.shown.endswith(b"piped")
    # A session of its own has no terminal to ask at.
    done = home.command("setsid", "-w", home.plugin, "secret", "get", "shop/x", check=False)
    assert done.returncode == WrongKeyError.code
    assert "no terminal" in done.err


def test_line_that_the_terminal_would_cut_is_refused(vault: DsoHome) -> None:
    with vault.terminal(vault.plugin, "secret", "set", "shop/x") as terminal:
        terminal.expect("Value for shop/x: ")
        terminal.line("x" * 5000)
        assert terminal.wait() == UsageError.code
    assert vault.dso("secret", "list", "-q").stdout == b""


def test_editor_has_the_terminal(vault: DsoHome) -> None:
    vault.dso("secret", "set", "shop/x", input="one")
    editor = os.path.join(vault.path, "editor")
    with open(editor, "w") as file:
        file.write('#!/bin/sh\ncat "$1"; printf " becomes: "; read -r answer; printf %s "$answer" >"$1"\n')
    os.chmod(editor, 0o755)
    with vault.terminal("docker", "dso", "secret", "edit", "shop/x", env={"EDITOR": editor}) as terminal:
        terminal.expect("one becomes: ")
        terminal.line("two words")
        assert terminal.wait() == 0
    assert vault.dso("secret", "get", "shop/x").stdout == b"two words"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_edit_that_is_ended_by_a_signal_leaves_nothing(vault: DsoHome, number: signal.Signals) -> None:
    vault.dso("secret", "set", "shop/x", input="one two")
    report = os.path.join(vault.path, "report")
    editor = os.path.join(vault.path, "editor")
    with open(editor, "w") as file:
        file.write(f'#!/bin/sh\necho "$1" > {report}\necho ready\nexec sleep 60\n')
    os.chmod(editor, 0o755)
    with vault.terminal(vault.plugin, "secret", "edit", "shop/x", env={"EDITOR": editor}) as terminal:
        terminal.expect("ready")
        os.kill(terminal.pid, number)
        assert terminal.wait() != 0
    with open(report) as file:
        path = file.read().strip()
    assert path.endswith("/x")
    assert not os.path.exists(os.path.dirname(path))
    assert vault.dso("secret", "history", "shop/x", "-q").stdout == b"1\n"
