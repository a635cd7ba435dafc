"""Messages between the agent and a provider plugin: JSON-RPC 2.0, one message a line.

Specified in docs/provider-protocol.md. Methods: `initialize`, `get`, `get_many`, `check`, `shutdown`.
Both sides use this module; what a plugin in another language must do stands on that page.

Numbers keep the digits they were written with (1.10, 12345678901234567890): both sides read and write
messages with `decode` and `encode`, whose numbers are `json_fast.Number`.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.protocol.codes import INVALID_REQUEST, PLUGIN_OVERSIZED, PROVIDER_CODES, UNAVAILABLE
from dso.protocol.reading import MessageError
from dso.secret import SecretValue
from dso.system.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # one line, its newline included
MAX_MESSAGE_VALUES = 10_000  # JSON values in one line; parsing cannot be interrupted, and 4 MiB of them took a second
MAX_VERSION = 512  # characters of a secret's version, and of what a plugin says of itself
MAX_RETRY_AFTER = 300.0  # seconds; more is not believed: a proxy in between may say a day
PLUGIN_PREFIX = "dso-provider-"
USER_VARIABLE = "DSO_PLUGIN_USER"  # in a plugin's environment: the user of its own that it runs as
_MAX_MESSAGE = 2000
_MAX_NAME = 500  # characters

# JSON-RPC wants a number; the code that counts is `data.code`.
RPC_PARSE_ERROR = -32700
RPC_INVALID_REQUEST = -32600
RPC_METHOD_NOT_FOUND = -32601
RPC_SERVER_ERROR = -32000


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as one line, its newline included."""
    from dso.system.json_fast import dumps

    return dumps(message).encode() + b"\n"


def decode(line: bytes) -> object:
    """A line as JSON, whose numbers are `json_fast.Number`.

    Raises:
        MessageError: it is not JSON.
    """
    from dso.system.json_fast import loads_literal

    try:
        return loads_literal(line.decode())
    except (ValueError, RecursionError):
        raise MessageError("a line is not JSON in UTF-8") from None


class ProviderError(Exception):
    """A provider cannot give a secret, or cannot work at all.

    `code` is one of `dso.protocol.codes`; `message` says what happened and what to do, and holds no value
    and no credential; `retry_after` is in seconds, None when unknown. A plugin sets `oversized` when a
    secret has no room in the answer: the agent knows that as the code `plugin_oversized`, and one that
    came in a `get_many` can be asked for alone.
    """

    def __init__(self, code: str, message: str, *, retry_after: float | None = None, oversized: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.oversized = oversized

    def to_rpc(self) -> dict[str, Any]:
        """The JSON-RPC error object."""
        data: dict[str, Any] = {"code": self.code}
        if self.retry_after is not None:
            data["retry_after"] = self.retry_after
        if self.oversized:
            data["oversized"] = True
        return {"code": RPC_SERVER_ERROR, "message": self.message, "data": data}

    @classmethod
    def from_rpc(cls, error: object, redact: Callable[[str], str] = str) -> ProviderError:
        """Read an error object; one without a known code counts as `unavailable`, malformed ones too.

        `redact` takes credentials out of its message, before that becomes one line without control characters.
        """
        if not isinstance(error, dict):
            return cls(UNAVAILABLE, "the provider reported an error without saying which")
        data = error.get("data")
        data = data if isinstance(data, dict) else {}
        code, retry_after = data.get("code"), data.get("retry_after")
        if not isinstance(code, str) or code not in PROVIDER_CODES:
            code = INVALID_REQUEST if _number(error.get("code")) == RPC_METHOD_NOT_FOUND else UNAVAILABLE
        oversized = code == INVALID_REQUEST and data.get("oversized") is True
        code = PLUGIN_OVERSIZED if oversized else code
        seconds = _number(retry_after)
        if seconds is not None:
            seconds = min(seconds, MAX_RETRY_AFTER) if seconds >= 0 else None
        message = redact(str(error.get("message") or "the provider gave no reason"))[:_MAX_MESSAGE]
        return cls(code, _one_line(message), retry_after=seconds, oversized=oversized)


class SecretData(NamedTuple):
    """A secret as a provider has it.

    `content` is the whole secret: text or bytes as they are, or, when the backend itself knows
    fields (`is_fields`), a JSON object of them. `version` is the backend's own name of the version
    that was read ("" if it has none), `created_at` in seconds since 1970. `name` is the backend's own
    name of the secret, where that is another one than its path; else "".
    """

    content: SecretValue
    is_fields: bool = False
    version: str = ""
    created_at: float | None = None
    name: str = ""

    def to_result(self) -> dict[str, Any]:
        """The result of `get`: `fields`, `text` or `binary` (base64), and what is known of the version."""
        from dso.system.json_fast import loads_literal

        raw = self.content.reveal()
        result: dict[str, Any]
        if self.is_fields:
            result = {"fields": loads_literal(raw.decode("utf-8", "surrogatepass"))}
        else:
            try:
                result = {"text": raw.decode()}
            except UnicodeDecodeError:
                from binascii import b2a_base64

                result = {"binary": b2a_base64(raw, newline=False).decode()}
        result["version"] = self.version
        if self.created_at is not None:
            result["created_at"] = self.created_at
        if self.name:
            result["name"] = self.name
        return result

    @classmethod
    def from_result(cls, result: object) -> SecretData:
        """Read the result of `get`.

        Raises:
            MessageError: it is not what the protocol says.
        """
        if not isinstance(result, dict):
            raise MessageError("the result of `get` is no object")
        kinds = [kind for kind in ("fields", "text", "binary") if kind in result]
        if len(kinds) != 1:
            raise MessageError("the result of `get` has not exactly one of `fields`, `text` and `binary`")
        version, created_at = result.get("version", ""), result.get("created_at")
        name = result.get("name", "")
        if not isinstance(version, str) or not isinstance(name, str) or not _is_text(version) or not _is_text(name):
            raise MessageError("`version` or `name` is no string")
        if len(version) > MAX_VERSION:  # cut, it would no longer lead to the same content
            raise MessageError(f"`version` is longer than {MAX_VERSION} characters")
        seconds = _number(created_at)
        if created_at is not None and seconds is None:
            raise MessageError("`created_at` is no number of seconds")
        kind = kinds[0]
        return cls(
            SecretValue(_content(kind, result[kind])), kind == "fields", version, seconds, _one_line(name[:_MAX_NAME])
        )


def _number(value: object) -> float | None:
    """A number as a float, None if it is none or none that is finite."""
    from dso.system.json_fast import Number

    if isinstance(value, bool) or not isinstance(value, int | float | Number):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number - number == 0 else None  # neither infinite nor NaN


def _one_line(text: str) -> str:
    """A text on one line, and nothing in it that could mislead a terminal."""
    if text.isprintable():
        return text
    return visible(text.strip().replace("\r\n", " ").replace("\n", " ").replace("\t", " "))


def _whole(value: object) -> int | None:
    """A whole number, 0 or more, of at most nine digits; else None."""
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 1e9 and number.is_integer() else None  # noqa: PLR2004


def _is_text(value: object) -> bool:
    """Whether a value is a string, and not the literal of a number."""
    from dso.system.json_fast import Number

    return isinstance(value, str) and not isinstance(value, Number)


def _content(kind: str, value: object) -> bytes:
    if kind == "fields":
        if not isinstance(value, dict):
            raise MessageError("`fields` is no object")
        from dso.system.json_fast import dumps

        return dumps(value, ascii_only=False).encode("utf-8", "surrogatepass")
    if not isinstance(value, str) or not _is_text(value):
        raise MessageError(f"`{kind}` is no string")
    if kind == "text":
        return value.encode("utf-8", "surrogatepass")
    from binascii import Error, a2b_base64

    try:
        return a2b_base64(value, strict_mode=True)
    except (Error, ValueError):
        raise MessageError("`binary` is not base64") from None


class Initialized(NamedTuple):
    """What a plugin answers to `initialize`. `batch` is how many secrets a `get_many` may ask for; 0: it has none."""

    protocol: int
    provider: str
    version: str
    batch: int

    @classmethod
    def from_result(cls, result: object) -> Initialized:
        """Read it; MessageError."""
        protocol = _whole(result.get("protocol")) if isinstance(result, dict) else None
        if not isinstance(result, dict) or protocol is None:
            raise MessageError("the result of `initialize` has no `protocol` number")
        capabilities = result.get("capabilities") or {}
        batch = _whole(capabilities.get("get_many", 0)) if isinstance(capabilities, dict) else None
        if batch is None:
            raise MessageError("`capabilities` is no object with `get_many` as a number")
        provider, version = (_one_line(str(result.get(key, ""))[:MAX_VERSION]) for key in ("provider", "version"))
        return cls(protocol, provider, version, batch)

    def to_result(self) -> dict[str, Any]:
        """The result of `initialize`."""
        return {
            "protocol": self.protocol,
            "provider": self.provider,
            "version": self.version,
            "capabilities": {"get_many": self.batch},
        }
