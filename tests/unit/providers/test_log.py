"""What a plugin's log shows, and what it never does."""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING

import pytest

from dso.providers.log import credentials_in, start_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.providers.log import Redacting

CONFIG = {
    "address": "https://vault.example.com",
    "region": "eu-central-1",
    "auth": {"method": "approle", "role_id": "visible", "secret_id": "s3cr3t-id", "token_file": "/run/token"},
    "access_key_id": "AKIAEXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI",
    "password": "pw",
    "tls": {"client_key": "/etc/key.pem"},
}


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


def test_credentials_are_told_by_their_keys() -> None:
    found = set(credentials_in(CONFIG))
    assert {"s3cr3t-id", "AKIAEXAMPLE", "wJalrXUtnFEMI", "pw"} <= found
    assert not found & {"https://vault.example.com", "eu-central-1", "visible", "/run/token"}


def test_credentials_are_masked_wherever_they_stand(log: tuple[Redacting, io.StringIO]) -> None:
    formatter, stream = log
    formatter.hide(credentials_in({"token": "abcd", "password": "abcdefgh"}))
    logging.getLogger("dso.x").info("sent %s and %r, not %s", "abcdefgh", {"t": "abcd"}, "abc")
    assert stream.getvalue() == "INFO dso.x: sent ******** and {'t': '********'}, not abc\n"


def test_of_exceptions_the_class_is_shown_and_nothing_else(log: tuple[Redacting, io.StringIO]) -> None:
    _, stream = log
    try:
        int("canary")
    except ValueError:
        logging.getLogger("dso.x").exception("failed")
    assert stream.getvalue() == "ERROR dso.x: failed (ValueError)\n"


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
