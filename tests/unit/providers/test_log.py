"""What a plugin's log shows, and what it never does."""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING

import pytest

from dso.protocol.redaction import Redactor
from dso.providers.log import start_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.providers.log import Redacting


@pytest.fixture
def log() -> Iterator[tuple[Redacting, io.StringIO]]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    stream = io.StringIO()
    logging.getLogger("urllib3").setLevel(logging.NOTSET)  # the Azure provider silences it for its own process
    yield start_log(stream), stream
    root.handlers[:], level, logging.raiseExceptions = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    logging.getLogger("dso").setLevel(logging.NOTSET)


def test_credentials_are_masked_wherever_they_stand(log: tuple[Redacting, io.StringIO]) -> None:
    formatter, stream = log
    formatter.redact = Redactor({"token": "abcd", "password": "abcdefgh"})
    logging.getLogger("dso.x").info("sent %s and %r, not %s", "abcdefgh", {"t": "abcd"}, "abc")
    assert stream.getvalue() == "INFO dso.x: sent ******** and {'t': '********'}, not abc\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": {"method": "approle", "role_id": "canary-1"}},
        {"passphrase": "canary-1"},
        {"endpoint_url": "https://user:canary-1@host"},
        {"auth": {"private_key": "-----BEGIN KEY-----\ncanary-1-of-a-line\n-----END KEY-----"}},
    ],
)
def test_a_plugin_masks_in_its_own_log_what_the_agent_would(
    log: tuple[Redacting, io.StringIO], settings: dict[str, object]
) -> None:
    formatter, stream = log
    formatter.redact = Redactor(settings)
    logging.getLogger("dso.x").info("failed with %r", settings)
    assert "failed with" in stream.getvalue()
    assert "canary" not in stream.getvalue()


def test_of_exceptions_the_class_is_shown_and_nothing_else(log: tuple[Redacting, io.StringIO]) -> None:
    _, stream = log
    try:
        int("canary")
    except ValueError:
        logging.getLogger("dso.x").exception("failed")
    assert stream.getvalue() == "ERROR dso.x: failed (ValueError)\n"


def test_nothing_in_a_message_steers_a_terminal(log: tuple[Redacting, io.StringIO]) -> None:
    _, stream = log
    logging.getLogger("dso.x").warning("red \x1b[31m and \u202e turned")
    assert stream.getvalue() == "WARNING dso.x: red \\x1b[31m and \\u202e turned\n"


def test_a_message_is_one_line(log: tuple[Redacting, io.StringIO]) -> None:
    _, stream = log
    logging.getLogger("dso.x").warning("one\ntwo\r\n%s", "x" * 9000)
    assert stream.getvalue().count("\n") == 1
    assert len(stream.getvalue()) < 2100


def test_libraries_are_heard_from_warnings_on(log: tuple[Redacting, io.StringIO]) -> None:
    _, stream = log
    for name in ("botocore.credentials", "urllib3.connectionpool", "hvac"):
        logging.getLogger(name).debug("canary")
        logging.getLogger(name).info("canary")
        logging.getLogger(name).warning("heard")
    assert "canary" not in stream.getvalue()
    assert stream.getvalue().count("heard") == 3


def test_python_warnings_go_to_the_log(log: tuple[Redacting, io.StringIO]) -> None:
    _, stream = log
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "WARNING py.warnings" in stream.getvalue()


@pytest.mark.parametrize("arguments", [("%d", "canary"), ("%s %s", "canary")])
def test_a_message_that_cannot_be_made_shows_no_argument(
    log: tuple[Redacting, io.StringIO], arguments: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    _, stream = log
    logging.getLogger("dso.x").error(*arguments)
    assert "canary" not in stream.getvalue() + capfd.readouterr().err
    assert "cannot be shown: TypeError" in stream.getvalue()
