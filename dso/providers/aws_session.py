"""From the settings of an AWS provider to a client of Secrets Manager: the chain of credentials, and time limits."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from boto3.session import Session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import ConfigNotFound, ConfigParseError, NoCredentialsError, ProfileNotFound
from botocore.session import Session as CoreSession

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import ProviderError
from dso.providers.aws_data import prepare as use_data
from dso.providers.aws_http import limit_botocore
from dso.providers.aws_profile import check_profile
from dso.providers.options import Options
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.client import BaseClient

CONNECTIONS = 64  # kept open at most, and requests under way
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)  # what AssumeRole takes
_LONGEST_CONNECT = 5.0


class Settings(NamedTuple):
    """What dso.yaml says of an AWS provider; None where the chain of AWS's own settings decides."""

    region: str | None
    profile: str | None
    role_arn: str | None
    external_id: str | None
    session_name: str
    endpoint_url: str | None
    sts_endpoint_url: str | None
    ca_cert: str | None
    access_key_id: str | None
    secret_access_key: str | None
    session_token: str | None

    def __repr__(self) -> str:
        return "Settings(...)"  # some are credentials


def read_settings(name: str, config: Mapping[str, Any]) -> Settings:
    """Check the settings of dso.yaml.

    Raises:
        ProviderError: one is unknown, malformed, or useless without another.
    """
    options = Options(name, config)
    tls = options.section("tls")
    settings = Settings(
        region=options.text("region"),
        profile=options.text("profile"),
        role_arn=options.text("role_arn"),
        external_id=options.text("external_id"),
        session_name=options.text("session_name") or "dso",
        endpoint_url=options.text("endpoint_url"),
        sts_endpoint_url=options.text("sts_endpoint_url"),
        ca_cert=tls.text("ca_cert"),
        access_key_id=options.text("access_key_id"),
        secret_access_key=options.text("secret_access_key"),
        session_token=options.text("session_token"),
    )
    tls.finish()
    options.finish()
    _check_shape(options, tls, settings)
    _check_company(options, settings)
    return settings


def _check_shape(options: Options, tls: Options, settings: Settings) -> None:
    for key in ("endpoint_url", "sts_endpoint_url"):
        url = getattr(settings, key)
        if url is not None and not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", url):
            raise options.error(
                key, "is no address such as https://vpce-1a2b.secretsmanager.us-east-1.vpce.amazonaws.com"
            )
    if settings.region is not None and not _REGION.fullmatch(settings.region):
        raise options.error("region", "is no region such as eu-central-1")
    if not _SESSION_NAME.fullmatch(settings.session_name):
        raise options.error(
            "session_name", "has other characters than letters, digits and _+=,.@-, or is not 2 to 64 long"
        )
    if settings.ca_cert is not None and not os.access(settings.ca_cert, os.R_OK):
        raise tls.error("ca_cert", "names no file that can be read")


def _check_company(options: Options, settings: Settings) -> None:
    """Settings that mean something only together, or not together."""
    if bool(settings.access_key_id) != bool(settings.secret_access_key):
        missing = "secret_access_key" if settings.access_key_id else "access_key_id"
        raise options.error(missing, "is missing: the two keys go together")
    if settings.session_token and not settings.access_key_id:
        raise options.error("session_token", "needs access_key_id and secret_access_key")
    if settings.access_key_id and settings.profile:
        raise options.error("profile", "and access_key_id exclude each other")
    for key in ("external_id", "sts_endpoint_url"):
        if getattr(settings, key) and not settings.role_arn:
            raise options.error(key, "needs role_arn")


def make_session(name: str, settings: Settings, timeout: float) -> Session:
    """A session that knows its region and profile, and has not looked for credentials yet.

    boto3's stands on one of botocore's, where the settings are made that boto3 has no words for.
    Reads AWS's own files (~/.aws, or what AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name).

    Raises:
        ProviderError: these cannot be read, or name no region or no such profile.
    """
    limit_botocore()
    session = CoreSession(profile=settings.profile)
    use_data(session)
    try:
        session.get_scoped_config()
        region = settings.region or session.get_config_variable("region")
    except ProfileNotFound:
        known = ", ".join(sorted(session.available_profiles)[:20]) or "none"
        raise _unusable(name, f"there is no AWS profile of that name; there are: {known}") from None
    except (ConfigNotFound, ConfigParseError):
        raise _unusable(name, "AWS's configuration files (~/.aws/config, ~/.aws/credentials) cannot be read") from None
    profile = settings.profile or session.get_config_variable("profile") or "default"
    from_profile = bool(settings.profile) or not os.environ.get("AWS_ACCESS_KEY_ID")
    check_profile(
        name,
        profile,
        session.full_config["profiles"],
        needs_credentials=from_profile and not settings.access_key_id,
    )
    if not region:
        raise _unusable(name, "no AWS region is known: set `region:` here, or AWS_REGION, or one in the AWS profile")
    session.set_config_variable("region", region)
    if settings.ca_cert:
        session.set_config_variable("ca_bundle", settings.ca_cert)
    session.set_default_client_config(_client_config(timeout))
    # A profile with `mfa_serial` would ask for a code on the terminal, which a daemon must not.
    session.get_component("credential_provider").get_provider("assume-role")._prompter = _refuse_prompt  # noqa: SLF001
    if settings.access_key_id:
        session.set_credentials(settings.access_key_id, settings.secret_access_key, settings.session_token)
    return Session(botocore_session=session)


def make_client(session: Session, settings: Settings) -> BaseClient:
    """A client of Secrets Manager; finds credentials, which may take requests of its own.

    Raises:
        NoCredentialsError: there are none now; another session may find some.
        BotoCoreError, ClientError: those that were found cannot be used.
    """
    found = session.get_credentials()
    if found is None:
        raise NoCredentialsError
    core = session._session  # noqa: SLF001  # boto3 takes fixed credentials only, and so does botocore's public method
    try:
        if settings.role_arn:
            core._credentials = _role(session, settings)  # noqa: SLF001
        return session.client("secretsmanager", endpoint_url=settings.endpoint_url)
    finally:
        core._credentials = found  # noqa: SLF001


def _role(session: Session, settings: Settings) -> DeferredRefreshableCredentials:
    """Credentials of a role, asked for when they are first needed and again before they expire."""
    wanted = {"RoleSessionName": settings.session_name}
    if settings.external_id:
        wanted["ExternalId"] = settings.external_id

    def create_client(service: str, **options: Any) -> BaseClient:
        return session.client(service, endpoint_url=settings.sts_endpoint_url, **options)

    fetcher = AssumeRoleCredentialFetcher(create_client, session.get_credentials(), settings.role_arn, wanted)
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def _client_config(timeout: float) -> Config:
    """Time limits such that a few tries fit into the time one request may take (see `AwsProvider`)."""
    attempts = 1 + sum(timeout >= enough for enough in (2, 5, 10))
    return Config(
        connect_timeout=min(timeout / 2, _LONGEST_CONNECT),
        read_timeout=timeout / 2,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        user_agent_extra=f"dso/{VERSION}",
    )


def _refuse_prompt(*_words: object) -> NoReturn:
    raise NoCredentialsError


def _unusable(name: str, message: str) -> ProviderError:
    return ProviderError(INVALID_CONFIG, f"provider {name}: {message}")
