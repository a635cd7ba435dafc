"""`docker dso secret edit`: in memory, and only what changed is stored."""

import os
import stat
from pathlib import Path

import pytest

from dso.cli import secret_edit
from dso.errors import EditorError, InvalidSecretError, SecretNotFoundError
from dso.secret import SecretValue
from dso.system.memory_directory import is_in_memory
from dso.vault.store import Vault


class Editing:
    """`secret edit shop/tls.pem`, whose value is `one`, with a shell script as the editor; $1 is the file."""

    def __init__(self, owner, monkeypatch, path):
        self.owner = owner
        self._monkeypatch = monkeypatch
        self._path = path
        owner.ok("secret", "set", "shop/tls.pem", stdin=b"one")

    def __call__(self, script, *flags, variable="EDITOR"):
        self._path.write_text(f"#!/bin/sh\n{script}\n")
        self._path.chmod(0o755)
        self._monkeypatch.setenv(variable, f"'{self._path}'")
        return self.owner.dso("secret", "edit", *flags, "shop/tls.pem")

    def value(self):
        return self.owner.ok("secret", "get", "shop/tls.pem").stdout

    def versions(self):
        return Vault.open().versions("shop/tls.pem")


@pytest.fixture
def edit(owner, monkeypatch, tmp_path):
    return Editing(owner, monkeypatch, tmp_path / "my editor")


def test_edited_value_is_a_new_version(edit):
    assert edit('printf two > "$1"').code == 0
    assert edit.value() == b"two"
    assert edit.versions() == [2, 1]


def test_visual_comes_before_editor(edit, monkeypatch):
    monkeypatch.setenv("EDITOR", "false")
    assert edit('printf two > "$1"', variable="VISUAL").code == 0


def test_unchanged_value_is_not_stored(edit):
    assert "unchanged" in edit("true").err
    assert edit.versions() == [1]


@pytest.mark.parametrize("script", ['printf two > "$1"; exit 3', 'rm "$1"', 'rm "$1"; mkdir "$1"'])
def test_failing_editor_changes_nothing(edit, script):
    done = edit(script)
    assert done.code == EditorError.code
    assert edit.versions() == [1]


def test_editor_that_does_not_exist_changes_nothing(owner, monkeypatch):
    owner.ok("secret", "set", "x", stdin=b"one")
    monkeypatch.setenv("EDITOR", "/nonexistent/editor")
    assert owner.dso("secret", "edit", "x").code == EditorError.code


def test_newline_that_the_editor_added_is_dropped_unless_raw(edit):
    assert "unchanged" in edit('printf "one\\n" > "$1"').err
    edit('printf "two\\n" > "$1"')
    assert edit.value() == b"two"
    edit('printf "three\\n" > "$1"', "--raw")
    assert edit.value() == b"three\n"
    edit('printf "four\\n" > "$1"')
    assert edit.value() == b"four\n"


def test_emptied_value_is_refused(edit):
    assert edit(': > "$1"').code == InvalidSecretError.code
    assert edit.value() == b"one"


def test_missing_secret_opens_no_editor(edit, tmp_path):
    edit("true")
    done = edit.owner.dso("secret", "edit", "shop/nope")
    assert done.code == SecretNotFoundError.code
    assert "did you mean" in done.err or "shop/nope" in done.err


def test_file_is_private_in_memory_has_the_secrets_name_and_is_gone_afterwards(edit, tmp_path):
    report = tmp_path / "report"
    edit(f'echo "$1" > {report}; stat -c "%a %U" "$1" >> {report}; cp "$1" "$1~"; mkdir "$(dirname "$1")/.swap"')
    path, modes = report.read_text().splitlines()
    assert os.path.basename(path) == "tls.pem"
    assert modes == "600 root"
    assert not os.path.exists(os.path.dirname(path))
    assert is_in_memory(os.path.dirname(os.path.dirname(path)))


def test_editor_gets_no_key(edit, monkeypatch, tmp_path):
    monkeypatch.setenv("DSO_MASTER_KEY", edit.owner.key_file.read_text().strip())
    assert edit(f"env > {tmp_path}/environment; ls -l /proc/$$/fd > {tmp_path}/descriptors").code == 0
    environment = (tmp_path / "environment").read_text()
    assert "HOME=" in environment
    assert "DSO_" not in environment
    assert ".dso" not in (tmp_path / "descriptors").read_text()


def test_change_by_somebody_else_meanwhile_is_kept_in_the_history(edit, monkeypatch):
    def meanwhile(_value, _name, *, keep_newline):
        with Vault.edit() as vault:
            vault.set("shop/tls.pem", SecretValue(b"theirs"))
        return SecretValue(b"ours")

    monkeypatch.setattr(secret_edit, "edit", meanwhile)
    done = edit("true")
    assert done.code == 0
    assert "somebody else" in done.err
    assert edit.value() == b"ours"
    assert Vault.open().get("shop/tls.pem", 2).reveal() == b"theirs"


def test_vim_is_told_to_leave_no_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("vim.basic", "nano"):
        (tmp_path / name).touch(mode=0o755)
    (tmp_path / "vi").symlink_to("vim.basic")
    assert "-n" in secret_edit._options("vi")
    assert "-n" in secret_edit._options(str(tmp_path / "vim.basic"))
    assert secret_edit._options("nano") == ()
    assert secret_edit._options("missing") == ()
    assert stat.S_ISLNK(Path(tmp_path / "vi").lstat().st_mode)


@pytest.mark.parametrize(
    "editor",
    ["vim -f", "nvim -u x", "'/opt/my tools/vim' -f", "~/bin/gvim --nofork", "rvim", "TERM=xterm env vim", "vim.tiny"],
)
def test_vim_with_arguments_and_quotes_is_told_too(editor):
    assert "-n" in secret_edit._options(editor)


@pytest.mark.parametrize("editor", ["nano -w vim", "code --wait", "emacs", "", "'vim", "view", "busybox vi"])
def test_other_editors_get_no_options_of_vim(editor, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "view").write_bytes(b"\x7fELF nvi")
    (tmp_path / "view").chmod(0o755)
    assert secret_edit._options(editor) == ()


@pytest.mark.parametrize("content", [b"\x7fELF VIM - Vi IMproved", b'#!/bin/sh\nexec /usr/bin/vim "$@"\n'])
def test_vim_installed_as_vi_is_told_too(content, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"/nonexistent:{tmp_path}")
    (tmp_path / "vi").write_bytes(content)
    (tmp_path / "vi").chmod(0o755)
    assert "-n" in secret_edit._options("vi -e")


def test_vim_with_arguments_gets_them_before_ours_and_the_file(edit, monkeypatch, tmp_path):
    report = tmp_path / "arguments"
    vim = tmp_path / "my tools" / "vim"
    vim.parent.mkdir()
    vim.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{report}'\n")
    vim.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"'{vim}' -f")
    assert edit("false").code == 0
    first, *ours, path = report.read_text().splitlines()
    assert (first, tuple(ours)) == ("-f", secret_edit._VIM_OPTIONS)
    assert os.path.basename(path) == "tls.pem"
