"""The settings of a `type: huawei` provider, checked."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dso.providers.huawei_sdk import CsmsRegion, IamHelper, get_iam_endpoint_by_id
from dso.providers.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS = ("aksk", "agency")
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
PROJECT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_KEY = re.compile(r"[!-+\--~]{1,256}")  # goes into a header, where a comma would end it
_TOKEN = re.compile(r"[!-~]{1,16384}")
_LAST_PORT = 65535


class Keys(NamedTuple):
    """What requests are signed with; a security token belongs to temporary keys only.

    `until` is when they expire, in seconds since 1970; None if that is not known.
    """

    access_key: str
    secret_key: str
    security_token: str | None = None
    until: float | None = None

    def __repr__(self) -> str:
        return "Keys(...)"


class HuaweiConfig(NamedTuple):
    """The settings.

    `keys` is None where they come from the machine's agency, `project_id` where IAM is to be asked for it;
    `endpoint` and `iam_endpoint` are `https://HOST[:PORT]` either way, and `has_endpoint` tells whether the first
    stands in dso.yaml.
    """

    name: str
    region: str
    project_id: str | None
    endpoint: str
    has_endpoint: bool
    iam_endpoint: str
    keys: Keys | None
    ca_cert: str | None

    @property
    def host(self) -> str:
        """Where CSMS is, for messages."""
        return urlsplit(self.endpoint).netloc

    @property
    def iam_host(self) -> str:
        """Where IAM is, for messages."""
        return urlsplit(self.iam_endpoint).netloc

    @property
    def setting(self) -> str:
        """Which setting leads to CSMS."""
        return "`endpoint:`" if self.has_endpoint else "`region:`"

    @classmethod
    def read(cls, name: str, settings: Mapping[str, Any]) -> HuaweiConfig:
        """Check settings; ProviderError `invalid_config` names the key at fault, never its value.

        Nothing comes from the environment and from `~/.huaweicloud`.
        """
        options = Options(name, settings)
        tls = options.section("tls")
        region = _region(options)
        endpoint = _address(options, "endpoint")
        config = cls(
            name=name,
            region=region,
            project_id=_project(options),
            endpoint=endpoint or _endpoint_of(options, region),
            has_endpoint=endpoint is not None,
            iam_endpoint=_address(options, "iam_endpoint") or _iam_endpoint_of(region),
            keys=_keys(options.section("auth")),
            ca_cert=tls.text("ca_cert"),
        )
        tls.finish()
        options.finish()
        return config


def _region(options: Options) -> str:
    region = options.required("region")
    if not _REGION.fullmatch(region):
        raise options.error("region", "is no region such as ap-southeast-3")
    return region


def _project(options: Options) -> str | None:
    project = options.text("project_id")
    if project is not None and not PROJECT_ID.fullmatch(project):
        raise options.error("project_id", "is no id of a project, which has letters, digits and hyphens only")
    return project


def _endpoint_of(options: Options, region: str) -> str:
    try:
        endpoint: str = CsmsRegion.value_of(region).endpoints[0]
    except KeyError:
        nearest = get_close_matches(region, CsmsRegion.static_fields, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        fault = f"is no region where this version knows CSMS; if there is one, set `endpoint:` too{hint}"
        raise options.error("region", fault) from None
    return endpoint


def _iam_endpoint_of(region: str) -> str:
    endpoint: str = get_iam_endpoint_by_id(region, IamHelper.DEFAULT_ENDPOINT)
    return endpoint


def _address(options: Options, key: str) -> str | None:
    """`https://HOST[:PORT]`: the SDK has its own paths."""
    text = options.text(key)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        port_is_good = parts.port is None or 0 < parts.port <= _LAST_PORT
    except ValueError:
        parts, port_is_good = urlsplit(""), False
    plain = text.isascii() and text.isprintable() and not set(text) & set(" \\?#@")
    if not plain or parts.scheme != "https" or not parts.hostname or not port_is_good or parts.path.strip("/"):
        raise options.error(key, "is no address such as https://kms.ap-southeast-3.myhuaweicloud.com")
    return f"https://{parts.netloc.lower()}"


def _keys(options: Options) -> Keys | None:
    if options.text("method") is None:
        raise options.error("method", f"is missing: it is one of {', '.join(METHODS)}")
    keys = None
    if options.choice("method", METHODS, "") == "aksk":
        keys = Keys(options.required("access_key"), options.required("secret_key"), options.text("security_token"))
        for key, value in zip(("access_key", "secret_key"), keys, strict=False):
            if not _KEY.fullmatch(str(value)):
                raise options.error(key, "has a character that no key has, such as a space or a comma")
        if keys.security_token is not None and not _TOKEN.fullmatch(keys.security_token):
            raise options.error("security_token", "has a character that no token has, such as a space")
    options.finish()
    return keys
