"""From paths to the names that Key Vault allows."""

from __future__ import annotations

import logging

import pytest

from dso.protocol.codes import INVALID_REQUEST, NOT_FOUND
from dso.protocol.provider import ProviderError
from dso.providers.azure_names import LONGEST, Names

NO_NAMES = ["", "a.b", "a b", "é", "a\nb", "a\n", "..", "../a", "a?b", "a%2fb", "\u2028"]
VERSION = "0123456789abcdef0123456789ABCDEF"


@pytest.fixture
def names() -> Names:
    return Names("azure-main")


@pytest.mark.parametrize("path", ["db-password", "DB", "0", "-a-", "a" * LONGEST])
def test_what_key_vault_allows_stays_as_it_is(names: Names, path: str) -> None:
    wanted = names.wanted(path, None)
    assert (wanted.name, str(wanted), wanted.is_renamed) == (path, path, False)


@pytest.mark.parametrize(
    ("path", "name"), [("db_password", "db-password"), ("prod/db", "prod-db"), ("prod/db_x-y", "prod-db-x-y")]
)
def test_underscores_and_slashes_become_hyphens_and_messages_say_so(names: Names, path: str, name: str) -> None:
    wanted = names.wanted(path, None)
    assert (wanted.name, wanted.is_renamed) == (name, True)
    assert str(wanted) == f"{path} ({name} in Key Vault)"


@pytest.mark.parametrize("path", [*NO_NAMES, "a" * (LONGEST + 1), "/a", "a/", "a//b", "/", "a/../b"])
def test_other_paths_are_refused_with_what_is_allowed(names: Names, path: str) -> None:
    with pytest.raises(ProviderError) as caught:
        names.wanted(path, None)
    assert caught.value.code == INVALID_REQUEST
    assert "azure-main" in caught.value.message
    assert "letters, digits and hyphens, at most 127" in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(("one", "other"), [("a_b", "a-b"), ("a-b", "a_b"), ("a/b", "a_b"), ("A_B", "a-b")])
def test_two_paths_that_become_one_name_are_told_by_both_names_and_both_work(
    names: Names, one: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What somebody asks for, be it junk, keeps nobody from the right path."""
    names.wanted(one, None)
    assert names.wanted(other, VERSION)
    names.was_read(one)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
    for _ in range(2):
        names.was_read(other)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert {one, other, "azure-main:"} <= set(record.getMessage().split())
    assert names.wanted(one, None)


def test_the_same_path_is_told_of_nothing_nor_is_one_in_another_case(
    names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("a_b", "a_b", "A_B", "c-d", "C-D"):
        names.was_read(path)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_translation_is_told_once_at_debug_level(names: Names, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("a_b", "plain", "a_b"):
        names.wanted(path, None)
        names.was_read(path)
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert "azure-main: a_b is the secret a-b" in record.getMessage()


def test_a_version_is_32_hexadecimal_digits(names: Names) -> None:
    wanted = names.wanted("a_b", VERSION)
    assert wanted.version == VERSION.lower()
    assert VERSION in str(wanted)


@pytest.mark.parametrize("version", ["", "1", "latest", VERSION[1:], VERSION + "0", "g" * 32, "x/../y", VERSION + "\n"])
def test_other_versions_do_not_exist(names: Names, version: str) -> None:
    with pytest.raises(ProviderError) as caught:
        names.wanted("a", version)
    assert caught.value.code == NOT_FOUND
    assert "azure-main: a has no version" in caught.value.message
    assert "32 hexadecimal digits" in caught.value.message
