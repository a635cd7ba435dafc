"""What a profile of AWS's files may ask for that a plugin with a user of its own cannot have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import USER_VARIABLE, ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Logins that lie in somebody's home directory, and programs that would have to find theirs there.
_AT_HOME = ("sso_session", "sso_start_url", "login_session", "credential_process")
_FILES = {
    "web_identity_token_file": "AWS_WEB_IDENTITY_TOKEN_FILE in /etc/dso/agent.env",
    "ca_bundle": "`tls: {ca_cert: FILE}`",
}
_WAYS = (
    "use `access_key_id:` and `secret_access_key:`, keys in the profile itself, AWS_WEB_IDENTITY_TOKEN_FILE, "
    "or the role of the machine"
)


def check_profile(provider: str, profile: str, profiles: Mapping[str, Any], *, needs_credentials: bool) -> None:
    """Refuse a profile that can work only as a user with a home directory; nothing to refuse in such a user's agent.

    Args:
        provider: its name, for the message.
        profile: the profile in use.
        profiles: all, by name, as botocore reads them.
        needs_credentials: whether the profile's credentials count.

    Raises:
        ProviderError: `invalid_config`; the message names the key of the profile, and what works.
    """
    user = os.environ.get(USER_VARIABLE)
    if not user:
        return
    for name, settings in _chain(profile, profiles):
        for key, instead in _FILES.items():
            path = settings.get(key)
            if path and (needs_credentials or key == "ca_bundle") and not os.access(os.path.expanduser(path), os.R_OK):
                raise _refused(provider, user, name, key, f"name the file by {instead}")
        if needs_credentials and "aws_access_key_id" not in settings:
            for key in _AT_HOME:
                if key in settings:
                    raise _refused(provider, user, name, key, _WAYS)


def _chain(profile: str, profiles: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A profile, and those that it takes its credentials from."""
    seen: set[str] = set()
    while profile in profiles and profile not in seen:
        seen.add(profile)
        yield profile, profiles[profile]
        profile = str(profiles[profile].get("source_profile", ""))


def _refused(provider: str, user: str, profile: str, key: str, way: str) -> ProviderError:
    return ProviderError(
        INVALID_CONFIG,
        f"provider {provider}: the AWS profile {profile} has `{key}`, which cannot work here: root's agent runs the "
        f"plugin as the user {user}, who has no home directory, no logins and no files; {way}",
    )
