"""What AWS says, in the codes of the protocol, and in words that help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore import exceptions as boto

from dso.protocol import codes
from dso.providers.aws_errors import Place, reported, translate
from dso.providers.provider import Request

if TYPE_CHECKING:
    from dso.protocol.provider import ProviderError

PLACE = Place("aws-east", "eu-central-1", "Secrets Manager in eu-central-1", "arn:aws:iam::1:role/reader")
WANTED = Request("prod/db", "AWSPREVIOUS")


def client_error(
    code: str,
    status: int = 400,
    operation: str = "GetSecretValue",
    message: str = "canary",
    headers: dict[str, str] | None = None,
) -> boto.ClientError:
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return boto.ClientError(response, operation)


def told(error: Exception, wanted: Request | None = WANTED) -> ProviderError:
    found = translate(error, PLACE, wanted)
    assert "aws-east" in found.message
    assert "canary" not in found.message
    assert "\n" not in found.message
    return found


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ResourceNotFoundException", 400, codes.NOT_FOUND),
        ("AccessDeniedException", 400, codes.PERMISSION_DENIED),
        ("AccessDenied", 403, codes.PERMISSION_DENIED),
        ("DecryptionFailure", 400, codes.PERMISSION_DENIED),
        ("UnrecognizedClientException", 400, codes.UNAUTHENTICATED),
        ("InvalidSignatureException", 400, codes.UNAUTHENTICATED),
        ("InvalidClientTokenId", 403, codes.UNAUTHENTICATED),
        ("ExpiredTokenException", 400, codes.UNAUTHENTICATED),
        ("ExpiredToken", 403, codes.UNAUTHENTICATED),
        ("MissingAuthenticationTokenException", 400, codes.UNAUTHENTICATED),
        ("IncompleteSignature", 400, codes.UNAUTHENTICATED),
        ("ThrottlingException", 400, codes.THROTTLED),
        ("Throttling", 400, codes.THROTTLED),
        ("TooManyRequestsException", 400, codes.THROTTLED),
        ("RequestLimitExceeded", 503, codes.THROTTLED),
        ("429", 429, codes.THROTTLED),
        ("InvalidParameterException", 400, codes.INVALID_REQUEST),
        ("ValidationException", 400, codes.INVALID_REQUEST),
        ("InvalidRequestException", 400, codes.INVALID_REQUEST),
        ("SomethingNewException", 400, codes.INVALID_REQUEST),
        ("UnknownOperationException", 400, codes.INVALID_CONFIG),
        ("404", 404, codes.INVALID_CONFIG),
        ("401", 401, codes.UNAUTHENTICATED),
        ("403", 403, codes.PERMISSION_DENIED),
        ("InternalServiceError", 500, codes.UNAVAILABLE),
        ("ServiceUnavailable", 503, codes.UNAVAILABLE),
        ("502", 502, codes.UNAVAILABLE),
        ("com.amazonaws#ResourceNotFoundException", 400, codes.NOT_FOUND),
    ],
)
def test_every_code_of_aws_has_its_code(code: str, status: int, expected: str) -> None:
    found = told(client_error(code, status))
    assert found.code == expected
    assert (found.retry_after is not None) == (expected == codes.THROTTLED)


@pytest.mark.parametrize("code", ["canary-1", "a canary", "x" * 61 + "canary", "canary\x1b[31m", "a#canary1"])
@pytest.mark.parametrize("status", [400, 401, 403, 429, 503])
@pytest.mark.parametrize("operation", ["GetSecretValue", "AssumeRole"])
def test_a_code_of_another_form_than_awss_is_not_repeated(code: str, status: int, operation: str) -> None:
    assert "a code that is none of AWS's" in told(client_error(code, status, operation)).message


def test_a_code_of_awss_is_repeated_without_what_is_before_it() -> None:
    assert "(SomethingNewException)" in told(client_error("com.amazonaws#SomethingNewException")).message
    assert "(503)" in told(client_error("503", 503)).message


@pytest.mark.parametrize("state", ["was marked for deletion", "was marked deleted"])
def test_a_secret_that_awaits_deletion_is_not_found(state: str) -> None:
    text = f"You can't perform this operation on the secret because it {state}."
    found = told(client_error("InvalidRequestException", message=text))
    assert found.code == codes.NOT_FOUND
    assert "scheduled for deletion" in found.message
    listed = reported("InvalidRequestException", text, PLACE, WANTED)
    assert (listed.code, listed.message) == (found.code, found.message)


def test_messages_name_secret_version_and_region_and_what_to_do() -> None:
    missing = told(client_error("ResourceNotFoundException")).message
    assert "prod/db version AWSPREVIOUS" in missing
    assert "eu-central-1" in missing
    assert "secretsmanager:GetSecretValue" in told(client_error("AccessDeniedException")).message
    assert "kms:Decrypt" in told(client_error("AccessDeniedException")).message
    assert "clock" in told(client_error("InvalidSignatureException")).message


def test_a_name_that_could_mislead_a_terminal_is_escaped() -> None:
    assert "a\\x1b[31m" in told(client_error("ResourceNotFoundException"), Request("a\x1b[31m")).message


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("soon", 1), ("", 1), ("-3", 1), ("99999", 300)])
def test_a_throttle_says_how_long_to_wait(header: str, seconds: float) -> None:
    error = client_error("ThrottlingException", headers={"retry-after": header} if header else None)
    assert told(error).retry_after == seconds


@pytest.mark.parametrize("operation", ["AssumeRole", "AssumeRoleWithWebIdentity"])
def test_a_role_that_cannot_be_assumed_is_a_matter_of_credentials(operation: str) -> None:
    found = told(client_error("AccessDenied", 403, operation))
    assert found.code == codes.UNAUTHENTICATED
    assert "role/reader" in found.message
    assert told(client_error("Throttling", 400, operation)).code == codes.THROTTLED


def boto_error(kind: type[Exception]) -> Exception:
    """One of botocore's own, with a canary for whatever its text is made of."""

    class Anything(dict[str, Any]):
        def __missing__(self, _key: str) -> str:
            return "canary"

    error = kind.__new__(kind)
    text = getattr(kind, "fmt", "canary").format_map(Anything())
    Exception.__init__(error, text)
    error.kwargs = {}  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (boto.NoCredentialsError, codes.UNAUTHENTICATED),
        (boto.PartialCredentialsError, codes.UNAUTHENTICATED),
        (boto.CredentialRetrievalError, codes.UNAUTHENTICATED),
        (boto.SSOTokenLoadError, codes.UNAUTHENTICATED),
        (boto.UnauthorizedSSOTokenError, codes.UNAUTHENTICATED),
        (boto.TokenRetrievalError, codes.UNAUTHENTICATED),
        (boto.LoginRefreshRequired, codes.UNAUTHENTICATED),
        (boto.MetadataRetrievalError, codes.UNAUTHENTICATED),
        (boto.EndpointConnectionError, codes.UNAVAILABLE),
        (boto.ConnectTimeoutError, codes.UNAVAILABLE),
        (boto.ReadTimeoutError, codes.UNAVAILABLE),
        (boto.ConnectionClosedError, codes.UNAVAILABLE),
        (boto.ProxyConnectionError, codes.UNAVAILABLE),
        (boto.SSLError, codes.UNAVAILABLE),
        (boto.HTTPClientError, codes.UNAVAILABLE),
        (boto.ParamValidationError, codes.INVALID_REQUEST),
    ],
)
def test_every_failure_on_the_way_has_its_code(kind: type[Exception], expected: str) -> None:
    found = told(boto_error(kind))
    assert found.code == expected
    assert told(boto_error(kind), None).code == expected


@pytest.mark.parametrize("kind", [boto.NoRegionError, boto.ProfileNotFound, boto.InvalidConfigError])
def test_settings_of_aws_that_cannot_be_used_are_told(kind: type[Exception]) -> None:
    assert translate(boto_error(kind), PLACE, None).code == codes.INVALID_CONFIG


def test_what_botocore_wraps_is_told_by_its_class() -> None:
    error = boto.HTTPClientError(error=LookupError("canary"))
    assert "HTTPClientError: LookupError" in told(error).message
