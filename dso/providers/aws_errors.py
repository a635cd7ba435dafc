"""What AWS and botocore say when something fails, in the words and codes of the provider protocol.

The text of their exceptions is not passed on: it may quote what was sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from botocore import exceptions as boto

from dso.protocol import codes
from dso.protocol.provider import ProviderError
from dso.providers.aws_http import OversizedError

if TYPE_CHECKING:
    from dso.providers.provider import Request

RETRY_AFTER = 1.0  # seconds, after a refusal that names no time itself
_LONGEST_RETRY_AFTER = 300.0
_CODE = re.compile(r"[A-Za-z.]{1,60}|[0-9]{3}")  # a number is HTTP's status, which botocore says where there is no code

# What Secrets Manager, STS and the services of AWS in general answer (`Error.Code`); without "Exception" at the end.
_CODES = {
    **dict.fromkeys(["ResourceNotFound"], codes.NOT_FOUND),
    **dict.fromkeys(
        [
            "AccessDenied",
            "DecryptionFailure",
            "EncryptionFailure",
            "Forbidden",
            "NotAuthorized",
            "UnauthorizedOperation",
        ],
        codes.PERMISSION_DENIED,
    ),
    **dict.fromkeys(
        [
            *["AuthFailure", "ExpiredToken", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId"],
            *[
                "InvalidIdentityToken",
                "InvalidSignature",
                "MissingAuthenticationToken",
                "OptInRequired",
                "RequestExpired",
            ],
            *["RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "Unauthorized"],
            *["UnrecognizedClient", "IDPRejectedClaim", "InvalidToken"],
        ],
        codes.UNAUTHENTICATED,
    ),
    **dict.fromkeys(
        [
            *["BandwidthLimitExceeded", "LimitExceeded", "PriorRequestNotComplete", "RequestLimitExceeded"],
            *["RequestThrottled", "SlowDown", "Throttled", "ThrottledRequest", "Throttling", "TooManyRequests"],
        ],
        codes.THROTTLED,
    ),
    **dict.fromkeys(["InvalidParameter", "InvalidRequest", "Validation", "ValidationError"], codes.INVALID_REQUEST),
    **dict.fromkeys(["InvalidAction", "UnknownOperation"], codes.INVALID_CONFIG),
}
_STATUSES = {
    401: codes.UNAUTHENTICATED,
    403: codes.PERMISSION_DENIED,
    404: codes.INVALID_CONFIG,  # of Secrets Manager it would have a code
    408: codes.UNAVAILABLE,
    429: codes.THROTTLED,
}
_UNUSABLE = (
    *[boto.NoRegionError, boto.InvalidRegionError, boto.UnknownEndpointError, boto.ProfileNotFound],
    *[boto.ConfigNotFound, boto.ConfigParseError, boto.InvalidConfigError, boto.UnknownCredentialError],
    *[boto.EndpointProviderError, boto.InvalidEndpointConfigurationError, boto.InvalidRetryConfigurationError],
    *[boto.InvalidProxiesConfigError, boto.InvalidDefaultsMode, boto.InvalidSTSRegionalEndpointsConfigError],
)
_NO_CREDENTIALS = (
    *[
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.MetadataRetrievalError,
    ],
    *[boto.NoAuthTokenError, boto.TokenRetrievalError, boto.SSOError, boto.LoginError],
    *[boto.RefreshWithMFAUnsupportedError],
)


class Place(NamedTuple):
    """Where something failed, for messages."""

    provider: str
    region: str
    endpoint: str
    role_arn: str | None


def translate(error: Exception, place: Place, wanted: Request | None) -> ProviderError:
    """An exception of botocore in our words. `wanted` is the secret, None if it is not about a single one.

    One that is not of botocore's own classes comes of taking an answer apart that has another form than AWS's.
    """
    if isinstance(error, boto.ClientError):
        return _refused(error, place, wanted)
    if isinstance(error, OversizedError):
        text = f"{place.endpoint} answers for {shown(wanted)} with more than a secret can be"
        return ProviderError(codes.INVALID_REQUEST, f"{place.provider}: {text}", oversized=True)
    kind = _kind(error)
    if isinstance(error, _NO_CREDENTIALS):
        code = codes.UNAUTHENTICATED
        text = (
            f"no usable AWS credentials ({kind}); they are looked for in `access_key_id:` and `profile:` of dso.yaml, "
            "AWS_* variables of the agent, ~/.aws, and the roles of container and machine"
        )
    elif isinstance(error, _UNUSABLE):
        code, text = codes.INVALID_CONFIG, f"AWS settings cannot be used: {_one_line(error)}"
    elif isinstance(error, boto.ParamValidationError):
        code, text = codes.INVALID_REQUEST, f"{shown(wanted)} is no name or version that AWS accepts"
    elif isinstance(error, boto.SSLError):
        code = codes.UNAVAILABLE
        text = f"the certificate of {place.endpoint} is not trusted; for a private one set `tls: {{ca_cert: FILE}}`"
    elif not isinstance(error, boto.BotoCoreError):
        code = codes.UNAVAILABLE
        text = f"{place.endpoint} answered for {shown(wanted)} in no form of AWS's ({kind}): check `endpoint_url:`"
    else:
        about = f" for {shown(wanted)}" if wanted else ""
        code, text = codes.UNAVAILABLE, f"cannot reach {place.endpoint}{about} ({kind}): {_way(error)}"
    return ProviderError(code, f"{place.provider}: {text}")


def _way(error: Exception) -> str:
    """What to look at when nothing answers."""
    if isinstance(error, boto.ProxyConnectionError):
        return "check the environment's proxy: HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    return "check the way there, `region:` and `endpoint_url:`"


def reported(code: str, message: str, place: Place, wanted: Request) -> ProviderError:
    """One of the `Errors` of BatchGetSecretValue."""
    return _worded(_code_of(code, 400, message), code, place, wanted)


def incomplete(place: Place, wanted: str) -> ProviderError:
    """For an answer without a secret in it, which is none of Secrets Manager's."""
    text = f"{place.endpoint} answered for {ascii(wanted)[1:-1]} without a secret: check `endpoint_url:`"
    return ProviderError(codes.UNAVAILABLE, f"{place.provider}: {text}")


def _refused(error: boto.ClientError, place: Place, wanted: Request | None) -> ProviderError:
    answer = error.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    name, message = (str(answer.get("Error", {}).get(key, "")) for key in ("Code", "Message"))
    code = _code_of(name, status, message)
    if error.operation_name.startswith("AssumeRole") and code in (codes.PERMISSION_DENIED, codes.INVALID_REQUEST):
        role = place.role_arn or "the profile's role"
        return ProviderError(
            codes.UNAUTHENTICATED,
            f"{place.provider}: the credentials may not assume {role} ({_reference(name)}): check the role's trust"
            " policy and `external_id:`",
        )
    return _worded(code, name, place, wanted, retry_after=_retry_after(answer))


def _code_of(name: str, status: int, message: str) -> str:
    short = name.rpartition("#")[2].removesuffix("Exception")
    if short == "InvalidRequest" and re.search(r"marked (for deletion|deleted)", message):
        return codes.NOT_FOUND
    known = _CODES.get(short) or _STATUSES.get(status)
    if known:
        return known
    return codes.INVALID_REQUEST if 400 <= status < 500 else codes.UNAVAILABLE  # noqa: PLR2004


def _worded(
    code: str, name: str, place: Place, wanted: Request | None, *, retry_after: float | None = None
) -> ProviderError:
    what, where, reference = shown(wanted), f"Secrets Manager in {place.region}", _reference(name)
    if code == codes.NOT_FOUND:
        gone = "is scheduled for deletion" if name.startswith("InvalidRequest") else "does not exist"
        text = f"{what} {gone} in {where}; check its name, the version, the region and the account"
    elif code == codes.PERMISSION_DENIED:
        text = f"the credentials may not read {what} in {where} ({reference}): "
        text += "allow them secretsmanager:GetSecretValue on it and, if it has a key of its own, kms:Decrypt on that"
    elif code == codes.UNAUTHENTICATED:
        text = f"{where} does not accept the credentials ({reference}): they are wrong, expired, or this clock is"
    elif code == codes.THROTTLED:
        text = f"{where} limits the rate of requests ({reference}); {what} was not read"
    elif code == codes.INVALID_CONFIG:
        text = f"{place.endpoint} does not know Secrets Manager's requests ({reference}): check `endpoint_url:`"
    elif code == codes.INVALID_REQUEST:
        text = f"{where} refuses the request for {what} ({reference}): check its name and version"
    else:
        text = f"{where} failed to answer for {what} ({reference})"
    return ProviderError(
        code,
        f"{place.provider}: {text}",
        retry_after=(retry_after or RETRY_AFTER) if code == codes.THROTTLED else None,
    )


def _reference(name: str) -> str:
    """A code of AWS's as it may be shown; whatever else a backend says in its place may hold anything."""
    short = name.rpartition("#")[2]
    return short if _CODE.fullmatch(short) else "a code that is none of AWS's"


def _retry_after(answer: dict[str, object]) -> float | None:
    metadata = answer.get("ResponseMetadata")
    headers = metadata.get("HTTPHeaders", {}) if isinstance(metadata, dict) else {}
    text = str(headers.get("retry-after", ""))
    return min(float(text), _LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() else None


def shown(wanted: Request | None) -> str:
    """A secret's name and version for messages; one that is no plain text could mislead a terminal."""
    if wanted is None:
        return "secrets"
    version = f" version {ascii(wanted.version)[1:-1]}" if wanted.version else ""
    return ascii(wanted.path)[1:-1] + version


def _kind(error: Exception) -> str:
    """The class of an error, and of the one it stands for: botocore wraps whatever happens on the way in its own."""
    inner = getattr(error, "kwargs", {}).get("error")
    name = type(error).__name__
    return f"{name}: {type(inner).__name__}" if isinstance(inner, BaseException) else name


def _one_line(error: Exception) -> str:
    """The text of an error about settings, which quotes names of settings and files only."""
    return " ".join(str(error).split())[:300]
