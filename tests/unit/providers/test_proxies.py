"""Which addresses are asked for through the environment's proxy."""

from __future__ import annotations

import os

import pytest
from botocore.utils import get_environ_proxies

from dso.providers.proxies import proxy_for, spare_metadata

METADATA = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]"]
PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_proxy", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", PROXY)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "[fe80::1]"])
def test_no_proxy_leads_to_this_machine_or_to_its_metadata(address: str):
    assert proxy_for(f"http://{address}/latest") is None
    assert proxy_for("http://vault.example/v1") == PROXY


@pytest.mark.parametrize("host", METADATA)
@pytest.mark.parametrize(("name", "given"), [("NO_PROXY", None), ("NO_PROXY", "a.example"), ("no_proxy", "a.example")])
def test_botocore_asks_no_proxy_for_metadata(
    host: str, name: str, given: str | None, monkeypatch: pytest.MonkeyPatch
):
    if given is not None:
        monkeypatch.setenv(name, given)
    assert get_environ_proxies(f"http://{host}/latest")
    changed = dict(os.environ)
    spare_metadata(changed)
    for key in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(key, changed[key])
    assert get_environ_proxies(f"http://{host}/latest") == {}
    assert get_environ_proxies("http://secretsmanager.example/")
    assert bool(get_environ_proxies("http://a.example/")) == (given is None)


def test_who_wants_no_proxy_at_all_keeps_that():
    environment = {"NO_PROXY": "*"}
    spare_metadata(environment)
    assert environment == {"NO_PROXY": "*"}
