"""A backend as the contract of providers sees it, and what is stored in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from dso.protocol.provider import ProviderError, SecretData
from dso.system.json_fast import loads_literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What is stored and must arrive: `text` and `binary` as they are, `fields` as an equal object with the same digits.
SAMPLES: dict[str, list[bytes]] = {
    "text": [
        b"plain",
        b" spaces around and a newline\n",
        'pässwörd ☃ 𝄞 \u2028 "quoted" \\ \t'.encode(),
        b'{"user": "app",  "port": 1.10}',
        b"0042",
        b"null",
    ],
    "binary": [bytes(range(256)), b"\xff", b"\x00" * 1000],
    "fields": [
        b'{"password":"plain"}',
        '{"user":"app","password":"pä\\"ss☃𝄞\\n","empty":""}'.encode(),
        b'{"port":5432,"ratio":1.10,"big":12345678901234567890,"neg":-0.50,"yes":true,"no":false}',
        b'{"nested":{"list":[1.50,{"a":"b"}]},"value":"v"}',
    ],
}


class Backend(ABC):
    """A backend that tests can write to.

    Attributes:
        type: of the provider.
        kinds: which of `text`, `binary` and `fields` it can hold.
        largest: bytes of a value it can hold and a plugin has to deliver.
        config: settings with which the plugin can read everything.
        env: variables it gets besides.
        unreachable: settings that lead nowhere.
        bad_credentials: settings the backend refuses, at least one.
        credentials: texts in all of these that must never be shown.
        odd_names: ends of paths with characters that mean something in an address, and that it can have.
    """

    type: ClassVar[str]
    kinds: ClassVar[Sequence[str]]
    largest: ClassVar[int]
    odd_names: ClassVar[Sequence[str]] = ()
    config: Mapping[str, Any]
    env: Mapping[str, str]
    unreachable: Mapping[str, Any]
    bad_credentials: Sequence[Mapping[str, Any]]
    credentials: Sequence[str]

    @abstractmethod
    def put(self, path: str, content: bytes, kind: str) -> str:
        """Store a secret, or a new version of it; what the plugin is to call the version."""

    def kept(self, path: str, content: bytes, kind: str) -> bytes:
        """What the backend itself has made of a secret that was stored: most keep it as it is."""
        return content


def assert_same(found: SecretData | ProviderError, content: bytes, kind: str) -> None:
    """A secret must be what was stored."""
    assert isinstance(found, SecretData), f"{found.code}: {found.message}"
    raw = found.content.reveal()
    if kind == "fields":
        assert found.is_fields
        assert loads_literal(raw.decode()) == loads_literal(content.decode())
    else:
        assert not found.is_fields
        assert raw == content


def assert_error(found: SecretData | ProviderError, code: str = "", *words: str) -> None:
    """There must be no secret but an error, this one if it is given, with these words in its message."""
    assert isinstance(found, ProviderError)
    assert code in ("", found.code), found.message
    assert [word for word in words if word not in found.message] == [], found.message
