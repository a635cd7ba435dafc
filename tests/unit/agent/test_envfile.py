"""The variables that `--check` takes from agent.env: those that are not set, from a file that is root's alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.agent.envfile import missing_variables
from dso.errors import ConfigError, EnvFileError

if TYPE_CHECKING:
    from pathlib import Path

OWN = os.getuid()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.env"
    path.write_text("# the agent's\nROLE=r-1\nPASSWORD='pa$word # x'\nSET=from the file\nPLAIN=a$HOME\nbare")
    path.chmod(0o600)
    return path


def test_what_is_set_already_wins_and_nothing_is_expanded(file: Path) -> None:
    found = missing_variables(str(file), {"SET": "", "HOME": "/root"}, owner=OWN)
    assert found == {"ROLE": "r-1", "PASSWORD": "pa$word # x", "PLAIN": "a$HOME"}


def test_no_file_has_no_variables(tmp_path: Path) -> None:
    assert missing_variables(str(tmp_path / "none.env"), {}) == {}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_that_others_may_write_is_refused_with_the_command_that_mends_it(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others than root") as caught:
        missing_variables(str(file), {}, owner=OWN)
    assert f"chmod 600 {file}" in caught.value.hint


def test_file_of_another_user_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="can be written by others than root"):
        missing_variables(str(file), {}, owner=OWN + 1)


def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(ConfigError, match="is no regular file"):
            missing_variables(str(path), {}, owner=OWN)


def test_faulty_line_is_told_without_its_value(file: Path) -> None:
    file.write_text("A='hunter2\n")
    with pytest.raises(EnvFileError, match="line 1") as caught:
        missing_variables(str(file), {}, owner=OWN)
    assert "hunter2" not in caught.value.message + caught.value.hint
