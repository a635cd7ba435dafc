"""The keys of each type of provider; those of `docs/dso-yaml.md`.

What a key means to its backend, and what holds when it is missing, is its provider's business: settings
reach the plugin as they are written, with variables expanded and durations in seconds.
"""

from __future__ import annotations

from dso.config.checks import is_absolute, is_https_url, is_public_variable, is_region, is_type, is_url
from dso.config.document import Mapping, Scalar
from dso.config.faults import Unfit, did_you_mean
from dso.config.kinds import Anything, Duration, Kind, ListOf, Text, Truth, Whole
from dso.config.reading import Opaque
from dso.config.sections import Key, Section, Variants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType
    from typing import Any

    from dso.config.document import Node
    from dso.config.reading import Place, Reader, Values


_SECRET = Text()  # a credential: any text
_TEXT = Text("printable text", str.isprintable)
_URL = Text("address", is_url, hint="http:// or https://, a host, no user name or password, no ? or #")
_HTTPS = Text("address", is_https_url, hint="https://, a host, no user name or password, no ? or #")
_REGION = Text("region", is_region, hint="such as us-east-1")
_FILE = Text("absolute path", is_absolute, hint="it begins with / and has no . or .. in it")
_ENV = Text(
    "name of a variable that a plugin may have",
    is_public_variable,
    hint="letters, digits and _, no digit first; the name, without a $; not one of DSO's own",
)

COMMON: MappingType[str, Key] = {
    "type": Key(Text(), required=True),
    "timeout": Key(Duration()),
    "cache_ttl": Key(Duration(zero=True)),
    "env": Key(ListOf(_ENV, "a list of names: [HTTPS_PROXY]")),
}


def _exclusive(values: Values, reader: Reader, *keys: str, needed: bool = False) -> None:
    """Of these keys only one may be there, and one must if it is `needed`."""
    present = [key for key in keys if key in values.lines]
    for key in present[1:]:
        reader.fault(values.at(key), f"stands beside `{present[0]}`, and only one of them can count", "remove one")
    if needed and not present:
        reader.fault(values.place, f"lacks {' or '.join(f'`{key}`' for key in keys)}", "add one of them")


def _together(values: Values, reader: Reader, key: str, *needed: str) -> None:
    """A key makes sense only with others."""
    missing = [name for name in needed if name not in values.lines]
    if key in values.lines and missing:
        hint = f"add `{missing[0]}`, or remove `{key}`"
        reader.fault(values.at(key), f"needs `{missing[0]}` beside it", hint)


def _check_vault_auth(values: Values, reader: Reader) -> None:
    method = values.get("method")
    if method == "approle":
        _exclusive(values, reader, "role_id", "role_id_file", needed=True)
        _exclusive(values, reader, "secret_id", "secret_id_file")
    elif method == "userpass":
        _exclusive(values, reader, "password", "password_file", needed=True)
    elif method == "jwt":
        _exclusive(values, reader, "jwt", "jwt_file", needed=True)


def _check_tls(values: Values, reader: Reader) -> None:
    _together(values, reader, "client_key", "client_cert")


def _check_aws(values: Values, reader: Reader) -> None:
    _together(values, reader, "access_key_id", "secret_access_key")
    _together(values, reader, "secret_access_key", "access_key_id")
    _together(values, reader, "session_token", "access_key_id", "secret_access_key")
    for key in ("external_id", "session_name", "sts_endpoint_url"):
        _together(values, reader, key, "role_arn")
    _exclusive(values, reader, "profile", "access_key_id")


_VAULT_AUTH = Variants(
    "`auth`",
    "method",
    {
        "token": {"token": Key(_SECRET, required=True)},
        "token_file": {"token_file": Key(_FILE, required=True)},
        "approle": {
            "role_id": Key(_SECRET),
            "role_id_file": Key(_FILE),
            "secret_id": Key(_SECRET),
            "secret_id_file": Key(_FILE),
            "mount": Key(_TEXT),
        },
        "userpass": {
            "username": Key(_TEXT, required=True),
            "password": Key(_SECRET),
            "password_file": Key(_FILE),
            "mount": Key(_TEXT),
        },
        "kubernetes": {"role": Key(_TEXT, required=True), "jwt_file": Key(_FILE), "mount": Key(_TEXT)},
        "jwt": {"role": Key(_TEXT), "jwt": Key(_SECRET), "jwt_file": Key(_FILE), "mount": Key(_TEXT)},
    },
    check=_check_vault_auth,
)
_TLS = Section(
    "`tls`",
    {
        "ca_cert": Key(_FILE),
        "client_cert": Key(_FILE),
        "client_key": Key(_FILE),
        "skip_verify": Key(Truth()),
        "server_name": Key(_TEXT),
    },
    check=_check_tls,
)
_CA_ONLY = Section("`tls` of this type", {"ca_cert": Key(_FILE)})
_AZURE_AUTH = Variants(
    "`auth`",
    "method",
    {
        "default": {},
        "client_secret": {
            "tenant_id": Key(_TEXT, required=True),
            "client_id": Key(_TEXT, required=True),
            "client_secret": Key(_SECRET, required=True),
        },
        "client_certificate": {
            "tenant_id": Key(_TEXT, required=True),
            "client_id": Key(_TEXT, required=True),
            "certificate_path": Key(_FILE, required=True),
            "certificate_password": Key(_SECRET),
        },
        "managed_identity": {"client_id": Key(_TEXT)},
        "workload_identity": {"tenant_id": Key(_TEXT), "client_id": Key(_TEXT), "token_file": Key(_FILE)},
    },
    default="default",
)
_HUAWEI_AUTH = Variants(
    "`auth`",
    "method",
    {
        "aksk": {
            "access_key": Key(_SECRET, required=True),
            "secret_key": Key(_SECRET, required=True),
            "security_token": Key(_SECRET),
        },
        "agency": {},
    },
)

TYPES: MappingType[str, Section] = {
    "vault": Section(
        "a provider of type vault",
        {
            **COMMON,
            "address": Key(_URL, required=True),
            "mount": Key(_TEXT),
            "namespace": Key(_TEXT),
            "kv_version": Key(Whole(1, 2)),
            "auth": Key(_VAULT_AUTH, required=True),
            "tls": Key(_TLS),
        },
    ),
    "aws": Section(
        "a provider of type aws",
        {
            **COMMON,
            "region": Key(_REGION),
            "profile": Key(_TEXT),
            "role_arn": Key(_TEXT),
            "external_id": Key(_SECRET),
            "session_name": Key(_TEXT),
            "endpoint_url": Key(_URL),
            "sts_endpoint_url": Key(_URL),
            "tls": Key(_CA_ONLY),
            "access_key_id": Key(_SECRET),
            "secret_access_key": Key(_SECRET),
            "session_token": Key(_SECRET),
        },
        check=_check_aws,
    ),
    "azure": Section(
        "a provider of type azure",
        {
            **COMMON,
            "vault_url": Key(_HTTPS, required=True),
            "authority": Key(_TEXT),
            "auth": Key(_AZURE_AUTH),
            "tls": Key(_CA_ONLY),
        },
    ),
    "huawei": Section(
        "a provider of type huawei",
        {
            **COMMON,
            "region": Key(_REGION, required=True),
            "project_id": Key(_TEXT),
            "endpoint": Key(_HTTPS),
            "iam_endpoint": Key(_HTTPS),
            "auth": Key(_HUAWEI_AUTH, required=True),
            "tls": Key(_CA_ONLY),
        },
    ),
}
THIRD_PARTY = Section("a provider", COMMON, rest=Anything())


class ProviderKind(Kind):
    """One provider: its `type` says which keys it has. Nothing of its values is ever quoted."""

    __slots__ = ()

    def read(self, node: Node, place: Place, reader: Reader) -> Values:  # noqa: D102
        reader.private = True
        try:
            return self._section(node, place, reader).read(node, place, reader)
        finally:
            reader.private = False

    @staticmethod
    def _section(node: Node, place: Place, reader: Reader) -> Section:
        if not isinstance(node, Mapping):
            raise Unfit("must be a mapping", "a provider has a `type` and the settings that belong to it")
        type_node = node.get("type")
        if type_node is None:
            raise Unfit("has no `type`", f"add `type: ...`, one of {', '.join(TYPES)}, or that of another plugin")
        if isinstance(type_node, Scalar) and type_node.text in TYPES:
            return TYPES[type_node.text]
        key = next(key for key, _ in node.entries if key.text == "type")
        at = place.key("type", key.line)
        try:
            written = reader.written(type_node)
        except Unfit as unfit:
            reader.fault(at, unfit.message, f"it is one of {', '.join(TYPES)}, or that of another plugin")
            raise Opaque from None
        if not is_type(written):
            near = did_you_mean(written, list(TYPES))
            reader.fault(at, f"is no type of provider{near}", "a type has the characters a-z 0-9 - and no variables")
            raise Opaque
        return THIRD_PARTY

    def sections(self) -> MappingType[str, Section]:  # noqa: D102
        return {**TYPES, "": THIRD_PARTY}


def file_settings(provider_type: str, settings: MappingType[str, Any]) -> list[tuple[tuple[str, ...], str]]:
    """The settings of a provider that are paths of files: where each stands (`("tls", "ca_cert")`), and the path.

    Of types that DSO does not bring nobody knows which they are: none.
    """
    section = TYPES.get(provider_type)
    return _files(section, settings, ()) if section is not None else []


def _files(kind: Kind, settings: MappingType[str, Any], above: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    found = []
    for name, value in settings.items():
        inner = next((one.keys[name].kind for one in kind.sections().values() if name in one.keys), None)
        if inner is _FILE and isinstance(value, str):
            found.append(((*above, name), value))
        elif inner is not None and isinstance(value, dict):
            found += _files(inner, value, (*above, name))
    return found
