"""docs/provider-protocol.md says what the code does."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from dso.agent.plugin import Limits
from dso.protocol.codes import PLUGIN_CODES, PROVIDER_CODES
from dso.protocol.provider import (
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_VALUES,
    MAX_VERSION,
    PROTOCOL_VERSION,
    RPC_INVALID_REQUEST,
    RPC_METHOD_NOT_FOUND,
    RPC_PARSE_ERROR,
    RPC_SERVER_ERROR,
    Initialized,
    ProviderError,
    SecretData,
    decode,
)
from tests.support.process import ROOT


@pytest.fixture(scope="module")
def page() -> str:
    with open(os.path.join(ROOT, "docs", "provider-protocol.md"), encoding="utf-8") as file:
        return file.read()


def section(page: str, title: str) -> str:
    return page.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_it_lists_every_code_and_no_other(page: str) -> None:
    assert set(re.findall(r"^\| `([a-z_]+)` \|", section(page, "Errors"), re.MULTILINE)) == PROVIDER_CODES
    assert set(re.findall(r"`(plugin_[a-z_]+)`", page)) == PLUGIN_CODES


def test_it_has_the_numbers_of_the_code(page: str) -> None:
    assert page.startswith(f"# The provider protocol, version {PROTOCOL_VERSION}\n")
    assert f"({MAX_MESSAGE_BYTES:,} bytes)" in page
    assert f"**{MAX_MESSAGE_VALUES:,} JSON values**" in page
    assert f"{MAX_VERSION} characters at most" in page
    numbers = (RPC_PARSE_ERROR, RPC_INVALID_REQUEST, RPC_METHOD_NOT_FOUND, RPC_SERVER_ERROR)
    assert {int(found) for found in re.findall(r"`(-32\d{3})`", page)} == set(numbers)
    limits = Limits()
    assert f"It has {limits.start:g} seconds" in page
    assert f"`initialize` in {limits.start:g} seconds" in page
    assert f"started again after {limits.backoff:g} seconds" in page
    assert limits.longest_backoff == 60
    assert "up to a\n  minute" in page


def test_its_examples_are_messages(page: str) -> None:
    joined = re.sub(r"},\n +{", "},{", page)
    found: list[Any] = [decode(line.encode()) for line in re.findall(r"^ {4}[→←] (.*)$", joined, re.MULTILINE)]
    results = [message["result"] for message in found if "result" in message]
    assert len(found) == len(results) + 1 == 4
    assert [result for result in results if "text" in result] != []
    for result in results:
        if "protocol" in result:
            assert Initialized.from_result(result).batch == 60
        elif "results" in result:
            assert SecretData.from_result(result["results"][0]["secret"]).version == "1"
            assert ProviderError.from_rpc(result["results"][1]["error"]).code == "not_found"
        else:
            assert SecretData.from_result(result).version == "12"
