"""What of Huawei Cloud's SDK dso-provider-huawei does not need: see dso/providers/huawei_sdk.py."""

from __future__ import annotations

import os

import huaweicloudsdkcsms

from dso.providers import huawei_sdk

MODELS = "huaweicloudsdkcsms.v1.model"


def unneeded_modules() -> list[str]:
    """Modules that stand-ins take the place of, and models of other calls than those for reading secrets."""
    directory = os.path.join(os.path.dirname(huaweicloudsdkcsms.__file__), *MODELS.split(".")[1:])
    models = {f"{MODELS}.{name.removesuffix('.py')}" for name in os.listdir(directory) if name.endswith(".py")}
    return sorted({*huawei_sdk.LEFT_OUT, *models} - {f"{MODELS}.__init__", *huawei_sdk.MODELS})
