"""Why Huawei Cloud gives no secret, as errors of the provider protocol: what happened, and what to do.

Of Huawei Cloud's own prose nothing is repeated but codes: it quotes access keys, and parts of the request.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dso.protocol.codes import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    NOT_FOUND,
    PERMISSION_DENIED,
    THROTTLED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from dso.protocol.provider import ProviderError
from dso.providers.huawei_names import shown

if TYPE_CHECKING:
    from dso.providers.huawei_config import HuaweiConfig
    from dso.providers.huawei_http import RefusedError
    from dso.providers.provider import Request

RETRY_AFTER = 1.0  # seconds, after a refusal that names no time itself: the gateway counts by the second
SERVER_ERROR = 500
_UNAUTHORIZED, _FORBIDDEN, _MISSING, _TOO_MANY = 401, 403, 404, 429
_NO_AGENCY = "please configure cloud service agency first"

# "Error Code" of the API reference of Data Encryption Workshop, and "Error Codes" of the API Request Signing Guide,
# where the same numbers stand with APIGW. and, in other regions, with APIG. before them.
_NO_SUCH_SECRET = {"CSMS.0005", "CSMS.0106"}
_PENDING_DELETION = {"CSMS.0103", "CSMS.0107"}
_NOT_ENABLED = {"CSMS.0109"}
_NOT_DECRYPTED = {"CSMS.0401"}
_BAD_TOKEN = {"CSMS.0301"}  # with status 400
_NO_SUCH_API = {"0101"}
_BAD_CREDENTIALS = {"0301", "0303", "0305", "0307"}
_NO_PERMISSION = {"0302", "0304", "0306", "0402"}
_OTHER_PLACE = {"0310", "0802"}
_THROTTLED = {"0308"}


def is_throttled(error: RefusedError) -> bool:
    """Whether another try is welcome, only later."""
    return error.status == _TOO_MANY or _gateway(error) in _THROTTLED


def may_pass(error: RefusedError) -> bool:
    """Whether the same request may succeed soon."""
    return is_throttled(error) or error.status >= SERVER_ERROR


def is_missing(error: RefusedError) -> bool:
    """Whether the secret, the version or the stage is not there."""
    return error.code in _NO_SUCH_SECRET or (error.status == _MISSING and error.code.startswith("CSMS."))


def is_unauthenticated(error: RefusedError) -> bool:
    """Whether other credentials may be better."""
    return error.status == _UNAUTHORIZED or error.code in _BAD_TOKEN


def hides_state(error: RefusedError) -> bool:
    """Whether the secret's state may be the reason, and the answer does not say which it is."""
    explained = is_missing(error) or error.code in _PENDING_DELETION | _NOT_DECRYPTED | _BAD_TOKEN
    return error.code.startswith("CSMS.") and error.status < SERVER_ERROR and not explained and not is_throttled(error)


def refused(config: HuaweiConfig, error: RefusedError, wanted: Request, state: str | None = None) -> ProviderError:
    """The error for an answer of CSMS without a secret.

    Args:
        config: of the provider.
        error: the answer.
        wanted: what was asked for.
        state: the secret's, as far as it was possible to learn it.
    """
    if is_throttled(error):
        return throttled(config, error)
    if error.status >= SERVER_ERROR:
        text = f"{_service(config)} fails ({error.reference})"
        return ProviderError(UNAVAILABLE, f"{config.name}: {text}", retry_after=error.retry_after)
    gateway = _gateway(error)
    if not error.code or gateway in _NO_SUCH_API:
        return not_csms(config, wanted, error.reference)
    if gateway in _OTHER_PLACE:
        text = f"{_service(config)} does not serve the project {config.project_id or 'that IAM names'} ({error.code}):"
        return ProviderError(INVALID_CONFIG, f"{config.name}: {text} check `project_id:` and `region:`")
    if gateway in _BAD_CREDENTIALS or is_unauthenticated(error):
        return unauthenticated(config, error, _service(config))
    return _csms_refused(config, error, wanted, state)


def _csms_refused(config: HuaweiConfig, error: RefusedError, wanted: Request, state: str | None) -> ProviderError:
    what, where = shown(wanted), _service(config)
    unfit = _unfit(error, state)
    if is_missing(error):
        code = NOT_FOUND
        text = f"{what} does not exist in {where}: check its name, the version, `region:` and the project"
    elif unfit is not None:
        code, text = NOT_FOUND, f"{what} {unfit}"
    elif error.code in _NOT_DECRYPTED:
        code = PERMISSION_DENIED
        text = f"{where} cannot decrypt {what} ({error.code}): allow the credentials to decrypt with its KMS key"
        text += " (kms:dek:decrypt; in identity policies kms:cmk:decryptDataKey), and see that the key is enabled"
    elif _gateway(error) in _NO_PERMISSION or error.status == _FORBIDDEN:
        code = PERMISSION_DENIED
        text = f"{where} does not let the credentials read {what} ({error.code}): allow them csms:secretVersion:get on"
        text += " it (and csms:secretStage:get for stages), in the project of `region:`"
    else:
        code = INVALID_REQUEST
        text = f"{where} refuses the request for {what} ({error.reference}): check its name and the version"
    return ProviderError(code, f"{config.name}: {text}")


def _unfit(error: RefusedError, state: str | None) -> str | None:
    """Why a secret that is there must not be handed out, if that is so."""
    if error.code in _PENDING_DELETION or state == "PENDING_DELETE":
        return "is scheduled for deletion in CSMS: cancel the deletion, or refer to another secret"
    if state == "DISABLED":
        return "is disabled in CSMS: enable it, or refer to another secret"
    if state == "FROZEN":
        return "is frozen in CSMS, as are the resources of an account in arrears: see the account's billing center"
    if error.code in _NOT_ENABLED:
        return f"is disabled or frozen in CSMS ({error.code}): enable it, or refer to another secret"
    return None


def expired(config: HuaweiConfig, wanted: Request, when: str) -> ProviderError:
    """The version's expiration is over."""
    text = f"{shown(wanted)} has expired in CSMS ({when}): store a new version, or move this one's expiration"
    return ProviderError(NOT_FOUND, f"{config.name}: {text}")


def throttled(config: HuaweiConfig, error: RefusedError) -> ProviderError:
    """Too many requests."""
    text = f"{_service(config)} limits the rate of requests ({error.reference})"
    return ProviderError(THROTTLED, f"{config.name}: {text}", retry_after=error.retry_after or RETRY_AFTER)


def unauthenticated(config: HuaweiConfig, error: RefusedError, where: str) -> ProviderError:
    """The signature, or the token that came with it, is not accepted: which of the known reasons it is."""
    said, temporary = error.said, config.keys is None or config.keys.security_token is not None
    reason = "check auth.access_key, auth.secret_key, and this machine's clock"
    if "signature expired" in said or "signature time" in said or "x-sdk-date" in said:
        reason = "this machine's clock is wrong by more than 15 minutes: set the clock"
    elif "reach the limit" in said:
        reason = (
            "the access key is locked for 5 minutes after several wrong signatures: check auth.secret_key, and wait"
        )
    elif "not exist" in said:
        reason = "there is no such access key: check auth.access_key"
        reason += " and auth.security_token" if temporary else ", and set auth.security_token if it is a temporary one"
    elif "token" in said:
        reason = "the security token is wrong, or has expired: give new temporary keys, all three of them"
        if not temporary:
            reason = "the keys are temporary ones: set auth.security_token"
    elif "signature fail" in said:
        reason = "auth.secret_key is not that of auth.access_key"
        reason += ", or the temporary keys have expired" if temporary else ""
    text = f"{where} does not accept the credentials ({error.reference}): {reason}"
    return ProviderError(UNAUTHENTICATED, f"{config.name}: {text}")


def not_csms(config: HuaweiConfig, wanted: Request, reference: str) -> ProviderError:
    """For an answer that is none of CSMS's."""
    text = f"what answers at {config.host} for {shown(wanted)} ({reference}) is no CSMS: check {config.setting}"
    return ProviderError(INVALID_CONFIG, f"{config.name}: {text}, and HTTPS_PROXY")


def iam_refused(config: HuaweiConfig, error: RefusedError) -> ProviderError:
    """IAM does not tell the project's id."""
    where = f"IAM at {config.iam_host}"
    if is_throttled(error):
        text = f"{where} limits the rate of requests ({error.reference}): set `project_id:`, so that it is not asked"
        return ProviderError(THROTTLED, f"{config.name}: {text}", retry_after=error.retry_after or RETRY_AFTER)
    if error.status >= SERVER_ERROR:
        text = f"{where} fails ({error.reference}): set `project_id:`, so that it is not asked"
        return ProviderError(UNAVAILABLE, f"{config.name}: {text}", retry_after=error.retry_after)
    if error.status == _UNAUTHORIZED:
        return unauthenticated(config, error, where)
    if error.status == _FORBIDDEN:
        text = f"{where} does not let the credentials list projects ({error.reference}): set `project_id:`"
        text += f" to the id of the project {config.region}, or allow them iam:projects:listProjects"
        return ProviderError(PERMISSION_DENIED, f"{config.name}: {text}")
    text = f"what answers at {config.iam_host} ({error.reference}) is no IAM: check `iam_endpoint:`, or set"
    return ProviderError(INVALID_CONFIG, f"{config.name}: {text} `project_id:`")


def no_project(config: HuaweiConfig, error: Exception) -> ProviderError:
    """IAM names no project, or several; `error` is what the SDK makes of that, or of an answer that is none."""
    said = str(error)
    if "Multiple project ids" in said:
        text = f"IAM knows several projects {config.region}: set `project_id:` to the one that has the secrets"
    elif "Failed to get project id" in said:
        text = f"IAM knows no project {config.region} of this account: check `region:`, or set `project_id:`"
    else:
        text = f"what answers at {config.iam_host} is no IAM: check `iam_endpoint:`, or set `project_id:`"
    return ProviderError(INVALID_CONFIG, f"{config.name}: {text}")


def agency_refused(name: str, status: int, said: str) -> ProviderError:
    """The metadata service gives no keys."""
    if status >= SERVER_ERROR or status == _TOO_MANY:
        text = f"the metadata service of this machine, at 169.254.169.254, gives no keys now (status {status})"
        return ProviderError(UNAVAILABLE, f"{name}: {text}")
    if _NO_AGENCY in said:
        text = "this ECS has no agency: give it one that may read the secrets, or use `auth: {method: aksk}`"
        return ProviderError(UNAUTHENTICATED, f"{name}: {text}")
    return no_agency(name, f"gives no keys (status {status})")


def agency_silent(name: str) -> ProviderError:
    """The metadata service, which has given keys before, does not answer."""
    text = "the metadata service of this machine, at 169.254.169.254, does not answer any more: it is asked again"
    return ProviderError(UNAVAILABLE, f"{name}: no credentials now: {text}")


def no_agency(name: str, fault: str) -> ProviderError:
    """There is nobody to ask for keys, or nobody who knows them."""
    text = f"no credentials: the metadata service at 169.254.169.254 {fault}; `auth: {{method: agency}}` works on an"
    return ProviderError(UNAUTHENTICATED, f"{name}: {text} ECS of Huawei Cloud that has an agency")


def about(error: ProviderError, wanted: Request) -> ProviderError:
    """An error that names the secret, in addition to what it says."""
    if shown(wanted) in error.message:
        return error
    message = f"{error.message} ({shown(wanted)} was not read)"
    return ProviderError(error.code, message, retry_after=error.retry_after, oversized=error.oversized)


def _service(config: HuaweiConfig) -> str:
    return f"CSMS at {config.host}" if config.has_endpoint else f"CSMS in {config.region}"


def _gateway(error: RefusedError) -> str:
    """The number of an error of the API gateway's, "" for another one."""
    match = re.fullmatch(r"APIGW?\.(\d+)", error.code)
    return match[1] if match else ""
