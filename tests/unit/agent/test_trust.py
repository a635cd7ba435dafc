"""Which programs the agent starts, and which it does not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.trust import plugin_file, trusted_plugin
from dso.protocol.codes import INVALID_CONFIG, PLUGIN_MISSING, PLUGIN_UNTRUSTED
from dso.protocol.provider import ProviderError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A directory with one good plugin, of type `x`."""
    directory = tmp_path / "above" / "plugins"
    for made in (directory.parent, directory):
        made.mkdir()
        made.chmod(0o755)
    program(directory / "dso-provider-x")
    return directory


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def refusal(directory: Path | str, provider_type: str = "x") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        trusted_plugin(str(directory), provider_type)
    return caught.value


def give_away(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Have a file belong to user 4711, as far as can be seen."""
    lstat = os.lstat

    def look(asked: str) -> Any:
        status = lstat(asked)
        if asked != str(path):
            return status
        fields = list(status)
        fields[4] = 4711
        return os.stat_result(fields)

    monkeypatch.setattr(os, "lstat", look)


def test_file_of_ours_that_nobody_else_can_write_is_trusted(plugins: Path) -> None:
    assert trusted_plugin(str(plugins), "x") == f"{plugins}/dso-provider-x"


@pytest.mark.parametrize(
    "provider_type",
    ["", ".", "..", "../x", "x/../x", "/x", "a/b", "x\0", "x\n", "x ", "X", "ü", "x" * 65, "x;id", "$(id)", "~", "-/x"],
)
def test_type_is_a_plain_word(plugins: Path, provider_type: str) -> None:
    error = refusal(plugins, provider_type)
    assert error.code == INVALID_CONFIG
    assert "type" in error.message


def test_type_with_a_path_in_it_does_not_reach_the_file_it_names(plugins: Path) -> None:
    (plugins / "dso-provider-").mkdir()
    program(plugins.parent / "evil")
    assert os.path.exists(f"{plugins}/dso-provider-/../../evil")  # what it would be, pasted together
    assert refusal(plugins, "/../../evil").code == INVALID_CONFIG


def test_missing_file_is_named_with_what_to_do(plugins: Path) -> None:
    error = refusal(plugins, "aws")
    assert error.code == PLUGIN_MISSING
    assert f"{plugins}/dso-provider-aws does not exist" in error.message
    assert f"`install -D -m 0755 dso-provider-aws {plugins}/dso-provider-aws`" in error.message
    assert "--plugin-dir" in error.message
    assert refusal(plugins / "nowhere").code == PLUGIN_MISSING


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_file_that_others_can_write_is_refused_with_the_remedy(plugins: Path, mode: int) -> None:
    path = plugins / "dso-provider-x"
    path.chmod(mode)
    error = refusal(plugins)
    assert error.code == PLUGIN_UNTRUSTED
    assert f"chmod go-w {path}" in error.message
    path.chmod(mode & ~0o022)
    assert trusted_plugin(str(plugins), "x") == str(path)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_directory_that_others_can_write_is_refused_sticky_or_not(plugins: Path, mode: int) -> None:
    plugins.chmod(mode)
    error = refusal(plugins)
    assert error.code == PLUGIN_UNTRUSTED
    assert f"chmod go-w {plugins}" in error.message


@pytest.mark.parametrize(("mode", "is_fine"), [(0o775, False), (0o757, False), (0o777, False), (0o1777, True)])
def test_directory_above_may_be_writable_if_it_is_sticky(plugins: Path, mode: int, is_fine: bool) -> None:
    plugins.parent.chmod(mode)
    if is_fine:
        assert trusted_plugin(str(plugins), "x")
    else:
        error = refusal(plugins)
        assert error.code == PLUGIN_UNTRUSTED
        assert f"chmod go-w {plugins.parent}" in error.message


@pytest.mark.parametrize("which", ["", "..", "dso-provider-x"])
def test_what_belongs_to_somebody_else_is_refused(plugins: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    path = type(plugins)(os.path.normpath(plugins / which))
    give_away(monkeypatch, path)
    error = refusal(plugins)
    assert error.code == PLUGIN_UNTRUSTED
    assert "belongs to user 4711" in error.message
    assert f"chown {os.geteuid()} {path}" in error.message


def test_link_within_the_directory_is_followed(plugins: Path) -> None:
    program(plugins / "dso-provider-y-1.2")
    (plugins / "dso-provider-y").symlink_to("dso-provider-y-1.2")
    assert trusted_plugin(str(plugins), "y") == f"{plugins}/dso-provider-y-1.2"


@pytest.mark.parametrize("target", ["{above}/evil", "../evil", "sub/../../evil"])
def test_link_out_of_the_directory_is_refused(plugins: Path, target: str) -> None:
    (plugins / "sub").mkdir()
    evil = program(plugins.parent / "evil")
    (plugins / "dso-provider-y").symlink_to(target.format(above=plugins.parent))
    error = refusal(plugins, "y")
    assert error.code == PLUGIN_UNTRUSTED
    assert f"out of its directory, to {evil}" in error.message


def test_link_of_somebody_else_is_refused(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plugins / "dso-provider-y").symlink_to("dso-provider-x")
    give_away(monkeypatch, plugins / "dso-provider-y")
    error = refusal(plugins, "y")
    assert error.code == PLUGIN_UNTRUSTED
    assert "chown -h" in error.message


def test_link_that_leads_nowhere_or_in_circles_is_missing(plugins: Path) -> None:
    (plugins / "dso-provider-y").symlink_to("dso-provider-z")
    (plugins / "dso-provider-z").symlink_to("dso-provider-y")
    (plugins / "dso-provider-w").symlink_to("nothing")
    assert refusal(plugins, "y").code == PLUGIN_MISSING
    assert refusal(plugins, "w").code == PLUGIN_MISSING


def test_directory_may_be_a_link_and_both_ways_to_it_are_looked_at(plugins: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o755)
    (other / "link").symlink_to(plugins)
    assert trusted_plugin(f"{other}/link", "x") == f"{plugins}/dso-provider-x"
    other.chmod(0o777)  # whoever can replace the link chooses the program
    assert f"chmod go-w {other}" in refusal(f"{other}/link").message
    other.chmod(0o755)
    plugins.parent.chmod(0o777)
    assert f"chmod go-w {plugins.parent}" in refusal(f"{other}/link").message


def test_what_is_no_program_is_refused(plugins: Path) -> None:
    (plugins / "dso-provider-d").mkdir()
    os.mkfifo(plugins / "dso-provider-p", 0o755)
    (plugins / "dso-provider-n").write_text("")
    (plugins / "dso-provider-n").chmod(0o644)
    for provider_type, fault in (("d", "no regular file"), ("p", "no regular file"), ("n", "not executable")):
        error = refusal(plugins, provider_type)
        assert error.code == PLUGIN_UNTRUSTED
        assert fault in error.message
    assert f"chmod 0755 {plugins}/dso-provider-n" in refusal(plugins, "n").message


def test_remedies_are_safe_to_paste(plugins: Path) -> None:
    odd = plugins / "a b; touch c"
    odd.mkdir()
    odd.chmod(0o777)
    assert refusal(odd).message.endswith(f"chmod go-w '{odd}'")


def test_relative_directory_is_taken_from_here(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plugins.parent)
    assert plugin_file("plugins", "x") == f"{plugins}/dso-provider-x"
    assert trusted_plugin("plugins", "x") == f"{plugins}/dso-provider-x"
