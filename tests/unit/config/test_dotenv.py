"""The `.env` grammar. tests/fixtures/dotenv/cases.json holds what Compose itself made of each text:

[text, variables or null when it refused the file], with ENVIRONMENT as its environment and bytes that are not
UTF-8 as surrogates. tests/integration/test_dotenv_agrees_with_compose.py asks the real one again.
"""

import json
import os
import subprocess
import sys

import pytest

from dso.config import dotenv
from dso.config.dotenv import entries, parse, quote
from dso.errors import EnvFileError

ENVIRONMENT = {"X": "xv", "EMPTY": "", "D": "$X", "A": "Aenv"}
FIXTURES = os.path.join(os.path.dirname(__file__), "../../fixtures/dotenv/cases.json")
with open(FIXTURES, encoding="utf-8") as stream:
    CASES = json.load(stream)


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[ascii(case[0])[:60] for case in CASES])
def test_reads_what_compose_reads(text: str, expected: dict[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(EnvFileError):
            parse(text, lookup=ENVIRONMENT.get)
    else:
        assert parse(text, lookup=ENVIRONMENT.get) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=$X", "$X"),
        ("A=${X:-d}", "${X:-d}"),
        ("A=pa$$word", "pa$$word"),
        ("A=${", "${"),
        ('A="$X"', "$X"),
        ('A="\\$X"', "$X"),
        ('A="a\\tb\\\\$"', "a\tb\\$"),
        ("A='$X'", "$X"),
        ("A=\\$X", "\\$X"),
    ],
)
def test_without_lookup_dollar_signs_stay(text: str, expected: str) -> None:
    assert parse(text) == {"A": expected}


def test_without_lookup_a_name_without_value_is_left_out() -> None:
    assert parse("A\nB=1\n") == {"B": "1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=$X", True),
        ("A=${X}", True),
        ("A=a${", True),
        ("A=a$$b", True),
        ('A="$$"', True),
        ('A="\\$$X"', True),
        ('A="\\$X"', False),
        ('A="\\$\\${X}"', False),
        ("A=$", False),
        ("A=5$ or 5$1", False),
        ("A='$X'", False),
        ("A=x", False),
        ("A\n", False),
    ],
)
def test_entries_say_whether_expansion_could_change_them(text: str, expected: bool) -> None:
    assert [entry.has_expression for entry in entries(text)] == [expected]


def test_entries_keep_order_duplicates_and_lines() -> None:
    text = "\ufeff# c\n\nA=1\nexport B='x\ny'\nC\nA=2 # d\n"
    assert [(entry.name, entry.line, entry.literal) for entry in entries(text)] == [
        ("A", 3, "1"),
        ("B", 4, "x\ny"),
        ("C", 6, None),
        ("A", 7, "2"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nB=hunter2\nhunter2+x\n", 3),
        ("A=1\nB='hunter2\nC=1\n", 2),
        ('A="x\ny" hunter2"\n', 2),
        ("A=1\n\nB=hunter2${hunter2\n", 3),
        ("B=${hunter2:?hunter2}", 1),
        ("K=-----BEGIN hunter2-----\nhunter2/hunter2\n", 2),
        ("hunter2 hunter2=1", 1),
        ("#\nexport ", 2),
    ],
)
def test_errors_name_file_and_line_and_nothing_of_a_value(text: str, line: int) -> None:
    with pytest.raises(EnvFileError) as raised:
        parse(text, lookup=lambda _name: None, source="prod.env")
    assert f"prod.env, line {line}: " in raised.value.message
    assert raised.value.hint
    assert "hunter2" not in raised.value.message + raised.value.hint
    assert raised.value.__cause__ is None


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(EnvFileError, match="too deeply"):
        parse("A=" + "${N:-" * 5000 + "}" * 5000, lookup=lambda _name: None)


def test_environment_goes_before_earlier_entries() -> None:
    assert parse("A=file\nC=file\nB=$A$C", lookup={"A": "env"}.get) == {"A": "file", "C": "file", "B": "envfile"}


def test_unset_variables_are_reported_once_an_entry() -> None:
    unset: list[dotenv.Entry] = []
    found = entries("A=$NO$NO\nB=${NO:-x}${A}\nC=${NO}\nD=${EMPTY}")
    dotenv.resolve(found, lookup={"EMPTY": ""}.get, unset=unset)
    assert [entry.name for entry in unset] == ["A", "C"]


def test_read_reads_bytes_that_are_not_utf8(tmp_path: object) -> None:
    path = f"{tmp_path}/.env"
    with open(path, "wb") as stream:
        stream.write(b"A=caf\xe9\r\nB=x\r\n")
    assert dotenv.read(path) == {"A": "caf\udce9", "B": "x"}


def test_read_names_its_file_in_errors(tmp_path: object) -> None:
    path = f"{tmp_path}/prod.env"
    with open(path, "wb") as stream:
        stream.write(b"A='x")
    with pytest.raises(EnvFileError, match=r"prod\.env, line 1"):
        dotenv.read(path)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain-1.2/x@y:z", "plain-1.2/x@y:z"),
        ("", "''"),
        ("a b", "'a b'"),
        ("$X", "'$X'"),
        ('"', "'\"'"),
        ("a\nb", "'a\nb'"),
        ("it's $5", '"it\'s \\$5"'),
        ("ends\\", '"ends\\\\"'),
        ("a\\b", "'a\\b'"),
        ("a\r\nb", '"a\\r\nb"'),
    ],
)
def test_quote_picks_the_plainest_form(value: str, written: str) -> None:
    assert quote(value) == written
    assert parse(f"A={written}", lookup={"X": "no"}.get) == {"A": value}


def test_import_is_cheap() -> None:
    program = "import sys; import dso.config.dotenv; print(sorted(set(sys.modules) & {'re','typing','enum','json'}))"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "[]\n"
