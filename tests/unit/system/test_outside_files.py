"""What others wrote, be it a file of Docker's or a child's answer, is read up to a bound and never waited for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.compose import plugin
from dso.config.dotenv import MAX_EXPANDED, parse
from dso.config.interpolation import MAX_EXPRESSIONS
from dso.delivery import connection
from dso.delivery.volume import _host_of_context
from dso.errors import DsoError, EnvFileError, FileAccessError
from dso.system import proc
from dso.system.files import read_input
from dso.system.json_fast import loads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def sparse(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(40 << 30)


def deep(path: str) -> None:
    with open(path, "w") as file:
        file.write('{"currentContext": ' + "[" * 100_000)


@pytest.mark.parametrize("make", [sparse, deep, os.mkfifo])
def test_dockers_configuration_may_be_anything(tmp_path: Path, make: Callable[[str], None]) -> None:
    path = str(tmp_path / "config.json")
    make(path)
    assert plugin._leaves_doubt(path) is (make is not deep)  # then Docker itself is asked
    assert connection._ambient_context({}, [str(tmp_path)]) == ("?" if make is deep else "")


@pytest.mark.parametrize("make", [sparse, deep, os.mkfifo])
def test_dockers_context_may_be_anything(tmp_path: Path, make: Callable[[str], None]) -> None:
    from hashlib import sha256

    directory = tmp_path / "contexts" / "meta" / sha256(b"there").hexdigest()
    directory.mkdir(parents=True)
    make(str(directory / "meta.json"))
    assert _host_of_context("there", str(tmp_path)) == ""


def test_answer_of_a_child_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "MAX_OUTPUT", 1000)
    assert len(proc.run(["head", "-c", "1000", "/dev/zero"]).stdout) == 1000
    with pytest.raises(DsoError, match="head wrote more than"):
        proc.run(["head", "-c", "1001", "/dev/zero"])


def test_json_that_is_nested_too_deeply_is_an_error_like_any_other() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000):
        with pytest.raises(ValueError, match=r"."):
            loads(text)


def test_standard_input_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = os.open("/dev/zero", os.O_RDONLY)
    original, got = os.read, []

    def read(_descriptor: int, count: int) -> bytes:
        got.append(original(zero, count))
        return got[-1]

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(FileAccessError, match="standard input has more than 100000 bytes"):
        read_input(100_000)
    os.close(zero)
    assert sum(map(len, got)) == 100_001


def test_variables_that_stand_for_too_much_are_an_error_before_they_are_joined() -> None:
    doubling = ["A0=0123456789", *(f"A{one + 1}=$A{one}$A{one}" for one in range(60))]
    wide = ["A=" + "x" * 100_000, "B=" + "$A" * (MAX_EXPANDED // 100_000 + 1)]
    for lines in (doubling, wide):
        with pytest.raises(EnvFileError, match="too much text"):
            parse("\n".join(lines), lookup=lambda _name: None)


def test_value_with_too_many_expressions_is_an_error() -> None:
    assert parse("A=" + "$B" * MAX_EXPRESSIONS, lookup=lambda _name: "") == {"A": ""}
    with pytest.raises(EnvFileError, match="more than 10000 dollar signs"):
        parse("A=" + "$B" * (MAX_EXPRESSIONS + 1), lookup=lambda _name: "")
