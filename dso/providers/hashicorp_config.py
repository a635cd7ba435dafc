"""The settings of a `type: vault` provider, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dso.config.model import Settings
from dso.providers.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

KUBERNETES_JWT = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_LAST_PORT = 65535


class _Method(NamedTuple):
    """What a way to log in takes: one of each of `needed`; what is `optional` may be left out."""

    needed: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    has_mount: bool = True


METHODS = {
    "token": _Method((("token",),), has_mount=False),
    "token_file": _Method((("token_file",),), has_mount=False),
    "approle": _Method((("role_id", "role_id_file"),), ("secret_id", "secret_id_file")),
    "userpass": _Method((("username",), ("password", "password_file"))),
    "kubernetes": _Method((("role",),), ("jwt_file",)),
    "jwt": _Method((("jwt", "jwt_file"),), ("role",)),
}


class Tls(NamedTuple):
    """Paths of PEM files; `server_name` is the name in the certificate, where it is not the address's."""

    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    server_name: str | None = None
    skip_verify: bool = False


class Auth(NamedTuple):
    """How to log in: a method, where it is mounted below `auth/`, and its parameters, some of them credentials."""

    method: str
    mount: str
    parameters: Settings


class HashicorpConfig(NamedTuple):
    """The settings. `address` has no slash at its end, `mount` and `namespace` none at either end."""

    name: str
    address: str
    mount: str
    namespace: str | None
    kv_version: int
    auth: Auth
    tls: Tls

    @property
    def label(self) -> str:
        """What messages call the provider."""
        return f"HashiCorp Vault (provider {self.name})"

    @classmethod
    def read(cls, name: str, settings: Mapping[str, Any]) -> HashicorpConfig:
        """Check settings; ProviderError `invalid_config` names the key at fault, never its value."""
        options = Options(name, settings)
        namespace = _text(options, "namespace")
        config = cls(
            name=name,
            address=_address(options),
            mount=_mount(options, "mount", "secret"),
            namespace=namespace and (namespace.strip("/") or None),
            kv_version=options.whole("kv_version", 2),
            auth=_auth(options.section("auth")),
            tls=_tls(options.section("tls")),
        )
        if config.kv_version not in (1, 2):
            raise options.error("kv_version", "is neither 1 nor 2")
        options.finish()
        return config


def _text(options: Options, key: str) -> str | None:
    """A string that may stand in a header or a path."""
    text = options.text(key)
    if text is not None and (not text.isprintable() or not text.strip()):
        raise options.error(key, "is blank, or has a character that cannot be printed")
    return text


def _address(options: Options) -> str:
    address = options.required("address")
    try:
        parts = urlsplit(address)
        port_is_good = parts.port is None or 0 < parts.port <= _LAST_PORT
    except ValueError:
        raise options.error("address", "is no URL, such as https://vault.example.com:8200") from None
    if parts.username is not None or parts.password is not None:
        raise options.error("address", "holds a user or password; credentials belong under `auth`")
    usual = address.isascii() and address.isprintable() and " " not in address
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good or not usual:
        raise options.error("address", "is not of the form https://HOST[:PORT]")
    if parts.query or parts.fragment:
        raise options.error("address", "has a part after ? or #")
    return address.rstrip("/").removesuffix("/v1")


def _mount(options: Options, key: str, default: str) -> str:
    mount = (_text(options, key) or default).strip("/")
    if any(segment in ("", ".", "..") for segment in mount.split("/")):
        raise options.error(key, "is no path of a mount")
    return mount


def _auth(options: Options) -> Auth:
    method = options.choice("method", tuple(METHODS), "")
    needed, optional, has_mount = METHODS[method]
    keys = [*(key for choice in needed for key in choice), *optional]
    given = {key: text for key in keys if (text := options.text(key)) is not None}
    for choice in needed:
        if not any(key in given for key in choice):
            raise options.error(choice[0], f"is missing{''.join(f', and `{other}` too' for other in choice[1:])}")
    for key in given:
        if f"{key}_file" in given:
            raise options.error(f"{key}_file", f"stands beside `{key}`, and only one of them can count")
    if method == "kubernetes":
        given.setdefault("jwt_file", KUBERNETES_JWT)
    mount = _mount(options, "mount", method).removeprefix("auth/") if has_mount else ""
    options.finish()
    if not given.get("token", "").isascii() or not given.get("token", "").isprintable():
        raise options.error("token", "has a character that no token has")
    return Auth(method, mount, Settings(given))


def _tls(options: Options) -> Tls:
    tls = Tls(
        ca_cert=options.text("ca_cert"),
        client_cert=options.text("client_cert"),
        client_key=options.text("client_key"),
        server_name=_text(options, "server_name"),
        skip_verify=options.flag("skip_verify", default=False),
    )
    if tls.client_key and not tls.client_cert:
        raise options.error("client_key", "needs `client_cert` beside it")
    options.finish()
    return tls
