"""Messages between the command line and the agent: HTTP and JSON over a Unix socket.

Specified in docs/agent-api.md. Both sides use this module, so that a caller cannot send, nor the
agent answer, what the other does not understand.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.protocol.reading import MessageError, read_count, read_list, read_object, read_text, read_texts
from dso.secret import SecretValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

API_VERSION = 1  # in every path (`/v1/`) and in the answer of /v1/status
MAX_REQUEST_BYTES = 1024 * 1024
MAX_REFERENCES = 10_000  # in one request

STATUS = "/v1/status"
RESOLVE = "/v1/resolve"
SECRETS = "/v1/secrets"
VOLUMES = "/v1/volumes"
EVENTS = "/v1/events"
LOGS = "/v1/logs"
RELOAD = "/v1/reload"
METRICS = "/metrics"
HEALTH = "/healthz"


class SecretEntry(NamedTuple):
    """An entry of a project's `secrets:`: the name its references use, and where that is."""

    name: str
    provider: str
    path: str
    version: str | None = None


class ResolveRequest(NamedTuple):
    """What to resolve.

    `values` are references whose value is wanted; `checks` are those of which it is enough to know
    that they can be resolved, and to what (a file's value never passes through the command line).
    """

    values: Sequence[str]
    checks: Sequence[str] = ()
    secrets: Sequence[SecretEntry] = ()

    def to_json(self) -> dict[str, Any]:
        """The body."""
        return {
            "values": list(self.values),
            "checks": list(self.checks),
            "secrets": [_without_none(entry) for entry in self.secrets],
        }

    @classmethod
    def from_json(cls, body: object) -> ResolveRequest:
        """Read a body; MessageError."""
        found = read_object(body, "the body", {"values", "checks", "secrets"})
        values = read_texts(found.get("values", []), "values")
        checks = read_texts(found.get("checks", []), "checks")
        if len(values) + len(checks) > MAX_REFERENCES:
            raise MessageError(f"more than {MAX_REFERENCES} references")
        return cls(values, checks, entries_from_json(found.get("secrets", [])))


class Resolved(NamedTuple):
    """One resolved reference.

    `value` is None for a `check`. `size` is the value's in bytes; `fingerprint` a keyed MAC of it, equal
    as long as the value is; `age` in seconds since the provider gave it; `stale` when it should be
    newer but the provider cannot be reached. `fields` are the names of the secret's fields, if it is a
    JSON object; only for a `check` whose field is `value`. `name` is what the backend calls the secret,
    where that is another name than its path; else "".
    """

    reference: str
    value: SecretValue | None
    size: int
    fingerprint: str
    version: str
    age: float
    stale: bool
    fields: Sequence[str] | None = None
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """One element of `resolved`."""
        found: dict[str, Any] = {"reference": self.reference}
        if self.value is not None:
            raw = self.value.reveal()
            try:
                found["value"] = raw.decode()
            except UnicodeDecodeError:
                from binascii import b2a_base64

                found["value_base64"] = b2a_base64(raw, newline=False).decode()
        if self.fields is not None:
            found["fields"] = list(self.fields)
        if self.name:
            found["name"] = self.name
        return {
            **found,
            "size": self.size,
            "fingerprint": self.fingerprint,
            "version": self.version,
            "age": round(self.age, 3),
            "stale": self.stale,
        }

    @classmethod
    def from_json(cls, body: object) -> Resolved:
        """Read one element; MessageError."""
        found = read_object(body, "an element of `resolved`")
        value: SecretValue | None = None
        if "value" in found:
            value = SecretValue(read_text(found["value"], "value").encode("utf-8", "surrogatepass"))
        elif "value_base64" in found:
            from binascii import a2b_base64

            value = SecretValue(a2b_base64(read_text(found["value_base64"], "value_base64")))
        try:
            return cls(
                read_text(found["reference"], "reference"),
                value,
                int(found["size"]),
                read_text(found["fingerprint"], "fingerprint"),
                str(found.get("version", "")),
                float(found.get("age", 0)),
                bool(found.get("stale", False)),
                read_texts(found["fields"], "fields") if "fields" in found else None,
                read_text(found.get("name", ""), "name"),
            )
        except (KeyError, TypeError, ValueError):
            raise MessageError("an element of `resolved` lacks a field or has one of a wrong type") from None


class Fault(NamedTuple):
    """Why one reference could not be resolved, or a whole request was refused; see dso.protocol.codes."""

    code: str
    message: str
    hint: str = ""
    reference: str = ""
    provider: str = ""
    retry_after: float = 0.0  # seconds, where another try may succeed then

    def to_json(self) -> dict[str, str | float]:
        """One element of `errors`, or `error`; empty fields are left out."""
        return {name: value for name, value in self._asdict().items() if value}

    @classmethod
    def from_json(cls, body: object) -> Fault:
        """Read it; MessageError."""
        found = read_object(body, "an error")
        code, message, hint, reference, provider = (str(found.get(name, "")) for name in cls._fields[:-1])
        if not code:
            raise MessageError("an error has no `code`")
        wait = found.get("retry_after")
        seconds = float(wait) if isinstance(wait, int | float) and wait >= 0 else 0.0
        return cls(code, message, hint, reference, provider, seconds)


class ResolveResponse(NamedTuple):
    """What came of a ResolveRequest, in its order; the same reference appears once."""

    resolved: Sequence[Resolved]
    errors: Sequence[Fault]

    def to_json(self) -> dict[str, Any]:
        """The body."""
        return {
            "resolved": [one.to_json() for one in self.resolved],
            "errors": [fault.to_json() for fault in self.errors],
        }

    @classmethod
    def from_json(cls, body: object) -> ResolveResponse:
        """Read a body; MessageError."""
        found = read_object(body, "the answer")
        return cls(
            [Resolved.from_json(one) for one in read_list(found.get("resolved"), "resolved")],
            [Fault.from_json(one) for one in read_list(found.get("errors"), "errors")],
        )


class VolumeFile(NamedTuple):
    """A file of a volume: its path in it (relative), the template of its content, owner and permission bits.

    A template is one reference, or text with references in double braces: never a value.
    """

    name: str
    template: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


class VolumeSpec(NamedTuple):
    """What a volume is to hold, and the project's entries its references may mean.

    This is the body of `PUT /v1/volumes` for each volume, the option `spec` of the Engine's volume,
    and what the agent keeps in volumes.json.
    """

    files: Sequence[VolumeFile]
    secrets: Sequence[SecretEntry] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "files": [file._asdict() for file in self.files],
            "secrets": [_without_none(entry) for entry in self.secrets],
        }

    @classmethod
    def from_json(cls, body: object) -> VolumeSpec:
        """Read it; MessageError. References in templates are not looked at."""
        found = read_object(body, "a volume", {"files", "secrets"})
        files = [_volume_file(one) for one in read_list(found.get("files"), "files")]
        return cls(files, entries_from_json(found.get("secrets", [])))


def volumes_to_json(volumes: Mapping[str, VolumeSpec]) -> dict[str, Any]:
    """The body of `PUT /v1/volumes`."""
    return {"volumes": {name: spec.to_json() for name, spec in volumes.items()}}


def volumes_from_json(body: object) -> dict[str, VolumeSpec]:
    """Read the body of `PUT /v1/volumes`; MessageError."""
    found = read_object(body, "the body", {"volumes"})
    return {name: VolumeSpec.from_json(spec) for name, spec in read_object(found.get("volumes"), "`volumes`").items()}


def entries_from_json(body: object) -> list[SecretEntry]:
    """A list of SecretEntry; MessageError."""
    entries = []
    for one in read_list(body, "secrets"):
        found = read_object(one, "an element of `secrets`", set(SecretEntry._fields))
        name, provider, path = (read_text(found.get(key), f"secrets: {key}") for key in ("name", "provider", "path"))
        version = found.get("version")
        pinned = None if version is None else read_text(version, "secrets: version")
        entries.append(SecretEntry(name, provider, path, pinned))
    return entries


def _volume_file(body: object) -> VolumeFile:
    found = read_object(body, "an element of `files`", set(VolumeFile._fields))
    uid, gid, mode = (read_count(found.get(key, default), key) for key, default in VolumeFile._field_defaults.items())
    name, template = (read_text(found.get(key), f"files: {key}") for key in ("name", "template"))
    return VolumeFile(name, template, uid, gid, mode)


def _without_none(entry: SecretEntry) -> dict[str, str]:
    return {name: value for name, value in entry._asdict().items() if value is not None}
