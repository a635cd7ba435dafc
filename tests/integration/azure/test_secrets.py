"""What the Azure provider makes of the secrets of a Key Vault: names, versions, states and contents."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST, NOT_FOUND
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.azure_entra import answer
from tests.servers.azure_vault import LARGEST
from tests.support.azure import AzureCloud, fault, provider, read
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.providers.azure import AzureProvider

DAY = 86400


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureCloud]:
    with AzureCloud() as found:
        yield found


@pytest.fixture
def opened(azure: AzureCloud) -> Iterator[AzureProvider]:
    with provider(azure.settings(), azure.environment()) as found:
        yield found


@pytest.fixture
def name() -> str:
    return f"db-{secrets.token_hex(6)}"


# Versions


def test_version_is_key_vaults_own_and_a_pinned_one_is_read(azure: AzureCloud, opened: AzureProvider, name: str):
    first, second = azure.put(name, "old"), azure.put(name, "new")
    found = opened.get(name, None)
    assert (found.content.reveal(), found.version) == (b"new", second)
    assert found.created_at is not None
    assert abs(found.created_at - time.time()) < DAY
    pinned = opened.get(name, first)
    assert (pinned.content.reveal(), pinned.version) == (b"old", first)
    assert opened.get(name, first.upper()).version == first


def test_version_that_no_secret_of_key_vault_can_have_is_not_asked_for(
    azure: AzureCloud, opened: AzureProvider, name: str
):
    azure.put(name, "x")
    azure.clear()
    for version in ("1", "latest", "../other", "0" * 31, "0" * 33, "?api-version=7.0"):
        error = fault(lambda version=version: opened.get(name, version))  # type: ignore[misc]
        assert (error.code, name in error.message) == (NOT_FOUND, True)
    assert azure.requests() == []


def test_version_of_another_secret_is_not_found(azure: AzureCloud, opened: AzureProvider, name: str):
    azure.put(name, "x")
    other = azure.put(f"{name}-other", "y")
    error = fault(lambda: opened.get(name, other))
    assert error.code == NOT_FOUND
    assert name in error.message
    assert other in error.message


# Names


def test_underscores_and_slashes_of_a_path_are_hyphens_in_key_vault(
    azure: AzureCloud, opened: AzureProvider, name: str
):
    azure.put(f"{name}-db-user-name", "x")
    assert read(opened, f"{name}/db/user_name") == b"x"
    assert azure.reads()[-1] == f"GET /secrets/{name}-db-user-name"


def test_missing_secret_is_named_as_it_was_asked_for_and_as_key_vault_knows_it(opened: AzureProvider, name: str):
    error = fault(lambda: opened.get(f"{name}/user_name", None))
    assert error.code == NOT_FOUND
    assert f"{name}/user_name" in error.message
    assert f"{name}-user-name" in error.message


def test_translation_shows_in_the_debug_log_once(
    azure: AzureCloud, opened: AzureProvider, name: str, caplog: pytest.LogCaptureFixture
):
    azure.put(f"{name}-a", "value-that-is-secret")
    with caplog.at_level(logging.DEBUG, "dso"):
        for _ in range(3):
            read(opened, f"{name}_a")
    told = [record.getMessage() for record in caplog.records if f"{name}-a" in record.getMessage()]
    assert len(told) == 1
    assert f"{name}_a" in told[0]
    assert "tested" in told[0]
    assert "value-that-is-secret" not in caplog.text


def test_name_that_needs_no_translation_is_not_in_the_debug_log(
    azure: AzureCloud, opened: AzureProvider, name: str, caplog: pytest.LogCaptureFixture
):
    azure.put(name, "x")
    with caplog.at_level(logging.DEBUG, "dso"):
        read(opened, name)
    assert not [record for record in caplog.records if "Key Vault" in record.getMessage()]


@pytest.mark.parametrize(("one", "other"), [("a_b", "a-b"), ("a-b", "a_b"), ("a/b", "a_b"), ("a_b-c", "a-b_c")])
def test_two_paths_of_one_name_are_told_by_both_names_and_both_work(
    azure: AzureCloud, opened: AzureProvider, name: str, one: str, other: str, caplog: pytest.LogCaptureFixture
):
    """Whatever junk was asked for before: it keeps nobody from the right path."""
    assert fault(lambda: opened.get(f"{name}-{other}", None)).code == NOT_FOUND
    azure.put(f"{name}-{one.translate(str.maketrans('_/', '--'))}", "x")
    with caplog.at_level(logging.WARNING, "dso"):
        for path in (one, other, one, other):
            assert read(opened, f"{name}-{path}") == b"x"
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{name}-{one}" in told
    assert f"{name}-{other}" in told


def test_case_does_not_matter_as_in_key_vault(azure: AzureCloud, opened: AzureProvider, name: str):
    azure.put(name, "x")
    assert read(opened, name.upper()) == read(opened, name) == b"x"


@pytest.mark.parametrize("path", ["a.b", "a b", "ä", "a//b", "/a", "a/", "", "a" * 128, "a?b", "a#b", "a%2Fb", "a\\b"])
def test_path_that_is_no_name_is_refused_without_asking(azure: AzureCloud, opened: AzureProvider, path: str):
    azure.clear()
    assert fault(lambda: opened.get(path, None)).code == INVALID_REQUEST
    assert azure.requests() == []


def test_longest_name(azure: AzureCloud, opened: AzureProvider):
    azure.put("n" * 127, "x")
    assert read(opened, "n" * 127) == b"x"


# States: each has words of its own, and no value comes


STATES: dict[str, tuple[dict[str, Any], str]] = {
    "disabled": ({"enabled": False}, "is disabled"),
    "expired": ({"exp": int(time.time()) - DAY}, "expired"),
    "not yet valid": ({"nbf": int(time.time()) + DAY}, "not valid before"),
}


@pytest.mark.parametrize("state", STATES)
def test_secret_in_a_state_that_forbids_it_is_told_apart_and_not_delivered(
    azure: AzureCloud, opened: AzureProvider, name: str, state: str
):
    attributes, words = STATES[state]
    version = azure.put(name, "value-that-is-secret", **attributes)
    for pinned in (None, version):
        error = fault(lambda pinned=pinned: opened.get(name, pinned))  # type: ignore[misc]
        assert error.code == NOT_FOUND, error.message
        assert name in error.message
        assert words in error.message
        others = [told for other, (_, told) in STATES.items() if other != state]
        assert [told for told in [*others, "deleted"] if told in error.message] == []
        assert "value-that-is-secret" not in error.message


@pytest.mark.parametrize("state", STATES)
def test_state_that_ends_makes_a_secret_readable_again(azure: AzureCloud, opened: AzureProvider, name: str, state: str):
    attributes = STATES[state][0]
    azure.put(name, "x", **attributes)
    assert fault(lambda: opened.get(name, None)).code == NOT_FOUND
    azure.vault.change(name, **{key: True if key == "enabled" else None for key in attributes})
    assert read(opened, name) == b"x"


@pytest.mark.parametrize("state", STATES)
def test_newest_version_that_cannot_be_read_is_not_replaced_by_an_older_one(
    azure: AzureCloud, opened: AzureProvider, name: str, state: str
):
    first = azure.put(name, "old")
    azure.put(name, "new", **STATES[state][0])
    assert fault(lambda: opened.get(name, None)).code == NOT_FOUND
    assert read(opened, name, first) == b"old"


@pytest.mark.parametrize("state", STATES)
def test_older_version_that_cannot_be_read_does_not_harm_the_newest(
    azure: AzureCloud, opened: AzureProvider, name: str, state: str
):
    first = azure.put(name, "old", **STATES[state][0])
    azure.put(name, "new")
    assert read(opened, name) == b"new"
    assert STATES[state][1] in fault(lambda: opened.get(name, first)).message


def test_secret_within_its_dates_is_read(azure: AzureCloud, opened: AzureProvider, name: str):
    now = int(time.time())
    azure.put(name, "x", nbf=now - DAY, exp=now + DAY)
    assert read(opened, name) == b"x"


@pytest.mark.parametrize(
    "attributes",
    [
        *[None, [], "x", {}, {"enabled": None}, {"exp": 1}],
        *[{"enabled": True, key: value} for key in ("exp", "nbf", "created") for value in (10**20, "soon", [1])],
    ],
    ids=repr,
)
def test_secret_whose_state_cannot_be_told_is_not_delivered(azure: AzureCloud, opened: AzureProvider, attributes: Any):
    """An answer that is none of Key Vault's; and it is no defect of the plugin."""
    where = f"{azure.vault.url}/secrets/odd/{'a' * 32}"
    azure.fail(answer({"value": "value-that-is-secret", "id": where, "attributes": attributes}), times=1)
    error = fault(lambda: opened.get("odd", None))
    assert error.code == INVALID_CONFIG
    assert "vault_url" in error.message


def test_deleted_secret_is_not_delivered_and_the_message_says_how_to_get_it_back(
    azure: AzureCloud, opened: AzureProvider, name: str
):
    """Key Vault itself answers as if it had never been there."""
    version = azure.put(name, "x")
    assert read(opened, name) == b"x"
    azure.vault.delete(name)
    for pinned in (None, version):
        error = fault(lambda pinned=pinned: opened.get(name, pinned))  # type: ignore[misc]
        assert error.code == NOT_FOUND
        assert "deleted" in error.message
        assert "az keyvault secret recover" in error.message
    azure.vault.recover(name)
    assert read(opened, name) == b"x"


# Contents


CONTENTS = {
    "text": "plain",
    "empty lines": "\n\n a \r\n",
    "unicode": 'pässwörd ☃ 𝄞 \u2028 "quoted" \\ \t',
    "null": "null",
    "number": "0042",
    "nul": "a\x00b",
    "json": '{"user": "app",  "port": 1.10}',
    "array": "[1, 2]",
    "largest": "x" * LARGEST,
    "largest in bytes": "☃" * (LARGEST // 3),
}


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json", "application/x-pkcs12", "ünknown"])
@pytest.mark.parametrize("content", CONTENTS)
def test_content_of_any_type_arrives_byte_by_byte(
    azure: AzureCloud, opened: AzureProvider, name: str, content: str, content_type: str | None
):
    azure.put(name, CONTENTS[content], content_type)
    found = opened.get(name, None)
    assert found.content.reveal() == CONTENTS[content].encode()
    assert not found.is_fields


@pytest.mark.parametrize("content_type", ["application/x-pkcs12", "Application/X-PKCS12; charset=utf-8"])
def test_certificate_with_its_key_is_the_file_that_key_vault_has_in_base64(
    azure: AzureCloud, opened: AzureProvider, name: str, content_type: str
):
    file = b"\x30\x82\x01\x00" + bytes(range(256))
    text = base64.b64encode(file).decode()
    azure.put(name, text, content_type)
    assert read(opened, name) == file
    azure.put(name, text, "text/plain")
    assert read(opened, name) == text.encode()


def test_empty_value_is_a_value(azure: AzureCloud, opened: AzureProvider, name: str):
    azure.put(name, "")
    assert read(opened, name) == b""


@pytest.mark.parametrize("variant", ["source", "frozen"])
def test_plugin_writes_the_translation_into_its_log(azure: AzureCloud, name: str, variant: str):
    """As a line for `log_level: debug`, by which the agent knows it."""
    azure.put(f"{name}-user-name", "value-that-is-secret")
    with Plugin(plugin_argv("dso-provider-azure", variant), azure.environment()) as plugin:
        plugin.initialize(azure.settings())
        for _ in range(2):
            assert isinstance(plugin.get(f"{name}/user_name"), SecretData)
        lines = [line for line in plugin.stderr.decode().splitlines() if name in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("DEBUG dso.azure: tested: ")
    assert f"{name}/user_name" in lines[0]
    assert f"{name}-user-name" in lines[0]


def test_frozen_plugin_reads_the_largest_value_and_a_translated_name(azure: AzureCloud, name: str):
    azure.put(f"{name}-user-name", json.dumps({"user": "ü" * 5000}, ensure_ascii=False))
    azure.put(f"{name}-large", "x" * LARGEST)
    azure.put(f"{name}-off", "value-that-is-secret", enabled=False)
    with Plugin(plugin_argv("dso-provider-azure", "frozen"), azure.environment()) as plugin:
        plugin.initialize(azure.settings())
        found = [plugin.get(f"{name}/{end}") for end in ("user_name", "large")]
        assert all(isinstance(one, SecretData) for one in found), found
        contents = [one.content.reveal() for one in found if isinstance(one, SecretData)]
        assert contents == [json.dumps({"user": "ü" * 5000}, ensure_ascii=False).encode(), b"x" * LARGEST]
        off = plugin.get(f"{name}/off")
        assert isinstance(off, ProviderError)
        assert "is disabled" in off.message
        assert b"value-that-is-secret" not in plugin.stderr
