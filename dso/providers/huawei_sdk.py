"""The part of Huawei Cloud's SDK that reading secrets takes; nothing else of DSO's imports the SDK.

The SDK imports at its top whatever any of its services may need: BSON (all of pymongo's), XML, uploads, Chinese
signature algorithms, YAML, all 131 models of CSMS. One of its modules writes a random id to `~/.huaweicloud` when it is
imported, and sends it with every request; others look for credentials and regions in the environment and in files
there. Stand-ins take the place of those, so that none of it happens, and that a plugin starts in half the time.
What is left is the SDK's own code, unmodified.
"""

# ruff: noqa: E402  # stand-ins have to be there before the SDK is imported
from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

import six  # noqa: F401  # the SDK imports `six.moves` alone, which PyInstaller would put in without it

from dso.version import VERSION


def _refuse(*_arguments: Any, **_settings: Any) -> NoReturn:
    """For what would be used for other services only; an answer in BSON or XML is none of CSMS's."""
    raise ValueError("this part of the SDK is left out")


class _NoKey:
    """For keys of other algorithms than HMAC-SHA256."""

    N_MINUS_TWO = 0


class _NoRegions:
    """For regions from the environment and `~/.huaweicloud/regions.yaml`: there are none."""

    @classmethod
    def get_default_region_provider_chain(cls, _service: str) -> _NoRegions:
        return cls()

    def get_region(self, _region: str) -> None:
        return None


_STAND_INS: dict[str, dict[str, Any]] = {
    "bson": {"encode": _refuse, "decode": _refuse},
    "requests_toolbelt": {"MultipartEncoder": _refuse},
    "huaweicloudsdkcore.auth.provider": {"CredentialProviderChain": _refuse},
    "huaweicloudsdkcore.http.bson_types": {"BSON_TYPES": (), "BSON_TYPES_MAPPING": {}},
    "huaweicloudsdkcore.http.user_agent": {"user_agent_string": f"dso/{VERSION}"},
    "huaweicloudsdkcore.region.provider": {"RegionProviderChain": _NoRegions},
    "huaweicloudsdkcore.signer.utils": {"new_sm3_hash": _refuse, "SM2SigningKey": _NoKey, "P256SigningKey": _NoKey},
    "huaweicloudsdkcore.utils.xml_utils": {"XmlTransfer": _refuse},
}
_PACKAGES = ("huaweicloudsdkcsms.v1", "huaweicloudsdkcsms.v1.model")  # their own code imports everything inside them


def _stand_in(name: str, members: dict[str, Any], places: list[str] | None = None) -> None:
    """A module in place of the SDK's, unless that is there already; with `places` a package."""
    if name not in sys.modules:
        sys.modules[name] = module = ModuleType(name)
        vars(module).update(members)
        if places is not None:
            module.__path__ = places


def _places(package: str) -> list[str]:
    """Where its modules are."""
    top, *below = package.split(".")
    specification = find_spec(top)
    places = (specification.submodule_search_locations if specification else None) or []
    return ["/".join((place, *below)) for place in places]


for _name, _members in _STAND_INS.items():
    _stand_in(_name, _members)
for _name in _PACKAGES:
    _stand_in(_name, {}, _places(_name))

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.auth.endpoint import get_iam_endpoint_by_id
from huaweicloudsdkcore.auth.internal import Credential, IamHelper, MetadataAccessor
from huaweicloudsdkcore.exceptions.exception_handler import DefaultExceptionHandler
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.http.http_client import HttpClient
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcsms.v1.csms_client import CsmsClient
from huaweicloudsdkcsms.v1.model.secret import Secret
from huaweicloudsdkcsms.v1.model.show_secret_request import ShowSecretRequest
from huaweicloudsdkcsms.v1.model.show_secret_response import ShowSecretResponse
from huaweicloudsdkcsms.v1.model.show_secret_stage_request import ShowSecretStageRequest
from huaweicloudsdkcsms.v1.model.show_secret_stage_response import ShowSecretStageResponse
from huaweicloudsdkcsms.v1.model.show_secret_version_request import ShowSecretVersionRequest
from huaweicloudsdkcsms.v1.model.show_secret_version_response import ShowSecretVersionResponse
from huaweicloudsdkcsms.v1.model.stage import Stage
from huaweicloudsdkcsms.v1.model.version import Version
from huaweicloudsdkcsms.v1.model.version_metadata import VersionMetadata
from huaweicloudsdkcsms.v1.region.csms_region import CsmsRegion

_REQUESTS = (ShowSecretRequest, ShowSecretStageRequest, ShowSecretVersionRequest)
_ANSWERS = (ShowSecretResponse, ShowSecretStageResponse, ShowSecretVersionResponse)
_PARTS = (Secret, Stage, Version, VersionMetadata)

# The client finds the classes of answers by name in this package.
for _model in _ANSWERS + _PARTS:
    setattr(sys.modules["huaweicloudsdkcsms.v1.model"], _model.__name__, _model)

LEFT_OUT = tuple(_STAND_INS)  # modules that need not be there
MODELS = tuple(_model.__module__ for _model in _REQUESTS + _ANSWERS + _PARTS)  # those that have to

__all__ = [
    "LEFT_OUT",
    "MODELS",
    "BasicCredentials",
    "Credential",
    "CsmsClient",
    "CsmsRegion",
    "DefaultExceptionHandler",
    "HttpClient",
    "HttpConfig",
    "IamHelper",
    "MetadataAccessor",
    "ServiceResponseException",
    "ShowSecretRequest",
    "ShowSecretStageRequest",
    "ShowSecretVersionRequest",
    "get_iam_endpoint_by_id",
]
