"""What a plugin's messages become, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from dso.protocol.codes import INVALID_REQUEST, NOT_FOUND, THROTTLED, UNAVAILABLE
from dso.protocol.fields import field_of
from dso.protocol.provider import MAX_VERSION, Initialized, ProviderError, SecretData, decode, encode
from dso.protocol.reading import MessageError
from dso.secret import SecretValue


def through_the_pipe(message: dict[str, Any]) -> Any:
    return decode(encode(message))


@pytest.mark.parametrize("digits", ["1.10", "12345678901234567890123", "-0", "1e3", "0.1000000000000000055511151231"])
def test_numbers_in_fields_keep_their_digits_from_backend_to_reference(digits: str) -> None:
    data = SecretData(SecretValue(f'{{"n":{digits},"deep":[{digits}]}}'.encode()), is_fields=True, version="1")
    read = SecretData.from_result(through_the_pipe(data.to_result()))
    assert read == data
    assert field_of(read.content, "n", name="x", as_file=False).reveal() == digits.encode()


@pytest.mark.parametrize("content", [b"", b"plain", "é\n\u2028".encode(), b"\xff\x00\xfe", b'{"not": "fields"}'])
def test_text_and_bytes_arrive_as_they_were(content: bytes) -> None:
    data = SecretData(SecretValue(content), version="v", created_at=1.5)
    assert SecretData.from_result(through_the_pipe(data.to_result())) == data


def test_the_backends_own_name_arrives_where_it_is_not_the_path() -> None:
    plain = SecretData(SecretValue(b"x"))
    assert "name" not in plain.to_result()
    renamed = plain._replace(name="db-pass")
    assert SecretData.from_result(through_the_pipe(renamed.to_result())) == renamed
    hostile = SecretData.from_result({"text": "x", "name": "a\x1b[31m\n" + "b" * 10_000})
    assert hostile.name.isprintable()
    assert len(hostile.name) < 1000


def test_a_version_has_a_bound_and_one_of_a_plugin_is_cut() -> None:
    longest = "v" * MAX_VERSION
    assert SecretData.from_result({"text": "x", "version": longest}).version == longest
    with pytest.raises(MessageError, match="512"):
        SecretData.from_result({"text": "x", "version": longest + "v"})
    long = {"protocol": 1, "version": "\x1b[2J\n" + "v" * 10_000, "provider": "p" * 10_000}
    told = Initialized.from_result(through_the_pipe(long))
    assert told.version.isprintable()
    assert max(len(told.version), len(told.provider)) < 600


def test_fields_that_are_not_ascii_are_readable_as_a_whole() -> None:
    read = SecretData.from_result(decode('{"fields":{"naïve":"\\u00fc"},"version":"1"}'.encode()))
    assert read.content.reveal() == '{"naïve":"ü"}'.encode()


@pytest.mark.parametrize(
    "line",
    [
        b"5",
        b"{}",
        b'{"text": 5}',
        b'{"text": null}',
        b'{"text": "a", "binary": "aa=="}',
        b'{"binary": "a"}',
        b'{"binary": 12345678}',
        b'{"fields": []}',
        b'{"fields": 5}',
        b'{"text": "a", "version": 3}',
        b'{"text": "a", "name": 3}',
        b'{"text": "a", "name": null}',
        b'{"text": "a", "created_at": "today"}',
        b'{"text": "a", "created_at": true}',
        b'{"text": "a", "created_at": 1e999}',
    ],
)
def test_a_result_of_the_wrong_types_is_refused(line: bytes) -> None:
    with pytest.raises(MessageError):
        SecretData.from_result(decode(line))


@pytest.mark.parametrize("line", [b"", b"hello", b"\xff", b"{", b"NaN", b"[" * 100_000])
def test_what_is_not_json_is_refused(line: bytes) -> None:
    with pytest.raises(MessageError):
        decode(line)


@pytest.mark.parametrize(
    ("line", "code", "retry_after"),
    [
        (b'{"code":-32000,"message":"m","data":{"code":"throttled","retry_after":1.5}}', THROTTLED, 1.5),
        (b'{"code":-32000,"message":"m","data":{"code":"throttled","retry_after":300}}', THROTTLED, 300),
        (b'{"code":-32000,"message":"m","data":{"code":"throttled","retry_after":99999}}', THROTTLED, 300),
        (b'{"code":-32000,"message":"m","data":{"code":"throttled","retry_after":1e300}}', THROTTLED, 300),
        (b'{"code":-32000,"message":"m","data":{"code":"not_found","retry_after":-1}}', NOT_FOUND, None),
        (b'{"code":-32000,"message":"m","data":{"code":"throttled","retry_after":"soon"}}', THROTTLED, None),
        (b'{"code":-32000,"message":"m","data":{"code":"throttled","retry_after":1e999}}', THROTTLED, None),
        (b'{"code":-32601,"message":"m"}', INVALID_REQUEST, None),
        (b'{"code":-32000,"message":"m","data":{"code":"plugin_crashed"}}', UNAVAILABLE, None),
        (b'{"code":-32000,"message":"m","data":{"code":["not_found"]}}', UNAVAILABLE, None),
        (b'"no"', UNAVAILABLE, None),
    ],
)
def test_an_error_keeps_its_code_and_patience(line: bytes, code: str, retry_after: float | None) -> None:
    error = ProviderError.from_rpc(decode(line))
    assert (error.code, error.retry_after) == (code, retry_after)


def test_an_error_goes_through_the_pipe() -> None:
    error = ProviderError.from_rpc(through_the_pipe(ProviderError(THROTTLED, "slow", retry_after=2).to_rpc()))
    assert (error.code, error.message, error.retry_after) == (THROTTLED, "slow", 2)


def test_what_a_plugin_says_of_itself() -> None:
    told = Initialized(1, "vault", "1.2", 20)
    assert Initialized.from_result(through_the_pipe(told.to_result())) == told
    assert Initialized.from_result(decode(b'{"protocol": 1}')) == Initialized(1, "", "", 0)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{}",
        b'{"protocol": "1"}',
        b'{"protocol": 1.5}',
        b'{"protocol": 1, "capabilities": 3}',
        b'{"protocol": 1, "capabilities": {"get_many": -1}}',
        b'{"protocol": 1, "capabilities": {"get_many": true}}',
    ],
)
def test_what_a_plugin_may_not_say_of_itself(line: bytes) -> None:
    with pytest.raises(MessageError):
        Initialized.from_result(decode(line))


def test_a_message_of_an_error_is_one_line_that_steers_no_terminal() -> None:
    error = ProviderError.from_rpc({"message": "a\x1b[2J\nhint: b\r\u202ec\td\x9b"})
    assert error.message == r"a\x1b[2J hint: b\r\u202ec d\x9b"


def test_credentials_are_masked_before_a_message_is_cut_or_changed() -> None:
    secret = "first line\nsecond line"
    error = ProviderError.from_rpc({"message": "x" * 1990 + secret}, lambda text: text.replace(secret, "***"))
    assert error.message == "x" * 1990 + "***"
