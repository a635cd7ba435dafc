"""Messages between the agent and a provider plugin: JSON-RPC 2.0, one message a line.

Specified in docs/provider-protocol.md. Methods: `initialize`, `get`, `get_many`, `check`, `shutdown`.
Both sides use this module; what a plugin in another language must do stands on that page.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.protocol.codes import INVALID_REQUEST, PROVIDER_CODES, UNAVAILABLE
from dso.protocol.reading import MessageError
from dso.secret import SecretValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # one line, its newline included
PLUGIN_PREFIX = "dso-provider-"

# JSON-RPC wants a number; the code that counts is `data.code`.
RPC_PARSE_ERROR = -32700
RPC_INVALID_REQUEST = -32600
RPC_METHOD_NOT_FOUND = -32601
RPC_SERVER_ERROR = -32000


class ProviderError(Exception):
    """A provider cannot give a secret, or cannot work at all.

    `code` is one of `dso.protocol.codes`; `message` says what happened and what to do, and holds no value
    and no credential; `retry_after` is in seconds, None when unknown.
    """

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def to_rpc(self) -> dict[str, Any]:
        """The JSON-RPC error object."""
        data: dict[str, Any] = {"code": self.code}
        if self.retry_after is not None:
            data["retry_after"] = self.retry_after
        return {"code": RPC_SERVER_ERROR, "message": self.message, "data": data}

    @classmethod
    def from_rpc(cls, error: object) -> ProviderError:
        """Read an error object; one without a known code counts as `unavailable`, malformed ones too."""
        if not isinstance(error, dict):
            return cls(UNAVAILABLE, "the provider reported an error without saying which")
        data = error.get("data")
        data = data if isinstance(data, dict) else {}
        code, retry_after = data.get("code"), data.get("retry_after")
        if code not in PROVIDER_CODES:
            code = INVALID_REQUEST if error.get("code") == RPC_METHOD_NOT_FOUND else UNAVAILABLE
        seconds = float(retry_after) if isinstance(retry_after, int | float) and 0 <= retry_after < 1e6 else None  # noqa: PLR2004
        return cls(code, str(error.get("message") or "the provider gave no reason")[:2000], retry_after=seconds)


class SecretData(NamedTuple):
    """A secret as a provider has it.

    `content` is the whole secret: text or bytes as they are, or, when the backend itself knows
    fields (`is_fields`), a JSON object of them. `version` is the backend's own name of the version
    that was read ("" if it has none), `created_at` in seconds since 1970.
    """

    content: SecretValue
    is_fields: bool = False
    version: str = ""
    created_at: float | None = None

    def to_result(self) -> dict[str, Any]:
        """The result of `get`: `fields`, `text` or `binary` (base64), and what is known of the version."""
        import json

        raw = self.content.reveal()
        result: dict[str, Any]
        if self.is_fields:
            result = {"fields": json.loads(raw)}
        else:
            try:
                result = {"text": raw.decode()}
            except UnicodeDecodeError:
                from binascii import b2a_base64

                result = {"binary": b2a_base64(raw, newline=False).decode()}
        result["version"] = self.version
        if self.created_at is not None:
            result["created_at"] = self.created_at
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
        if not isinstance(version, str):
            raise MessageError("`version` is no string")
        if created_at is not None and not _is_number(created_at):
            raise MessageError("`created_at` is no number of seconds")
        kind = kinds[0]
        return cls(SecretValue(_content(kind, result[kind])), kind == "fields", version, created_at)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _content(kind: str, value: object) -> bytes:
    if kind == "fields":
        if not isinstance(value, dict):
            raise MessageError("`fields` is no object")
        import json

        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if not isinstance(value, str):
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
        if not isinstance(result, dict) or not isinstance(result.get("protocol"), int):
            raise MessageError("the result of `initialize` has no `protocol` number")
        capabilities: Mapping[str, Any] = result.get("capabilities") or {}
        batch = capabilities.get("get_many", 0) if isinstance(capabilities, dict) else -1
        if not isinstance(batch, int) or isinstance(batch, bool) or batch < 0:
            raise MessageError("`capabilities` is no object with `get_many` as a number")
        return cls(result["protocol"], str(result.get("provider", "")), str(result.get("version", "")), batch)

    def to_result(self) -> dict[str, Any]:
        """The result of `initialize`."""
        return {
            "protocol": self.protocol,
            "provider": self.provider,
            "version": self.version,
            "capabilities": {"get_many": self.batch},
        }
