"""Which proxy the environment has for an address."""

from __future__ import annotations

import os

import pytest
from botocore.utils import get_environ_proxies

from dso.providers.proxies import UnsupportedProxyError, is_loopback, proxy_for, spare_metadata

PROXY = "http://proxy.example.com:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_the_variable_for_the_scheme_counts_and_that_for_all(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert proxy_for("https://x.example.com/a") is None
    monkeypatch.setenv(name, PROXY)
    assert proxy_for("https://x.example.com/a") == PROXY
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert proxy_for("https://x.example.com/a") is None


def test_a_proxy_without_a_scheme_is_one_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example.com:3128")
    assert proxy_for("https://x.example.com") == PROXY


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:1", "169.254.169.254", "[fe80::a9fe:a9fe]", "169.254.129.1"],
)
def test_nothing_of_this_machine_is_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, PROXY)
    for scheme in ("http", "https"):
        assert proxy_for(f"{scheme}://{host}/latest") is None


def test_a_proxy_that_cannot_be_used_is_told_by_its_kind_and_not_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://user:canary@proxy")
    with pytest.raises(UnsupportedProxyError) as caught:
        proxy_for("https://x.example.com")
    assert "cannot be used (socks5): check HTTP_PROXY and HTTPS_PROXY" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    ["http://", "http://:3128", "http://user:canary@[bad:3128", "http://user:canary@proxy:99999", "user:canary@"],
)
def test_a_proxy_whose_address_is_malformed_is_told_as_that(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A library would take it for a connection that was cut off."""
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(UnsupportedProxyError, match=r"cannot be used \(its address is malformed\)") as caught:
        proxy_for("https://x.example.com")
    assert "canary" not in str(caught.value)


def test_the_case_of_a_proxys_scheme_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "HTTP://proxy.example.com:3128")
    assert proxy_for("https://x.example.com") == "HTTP://proxy.example.com:3128"


def test_names_that_begin_like_this_machine_are_others() -> None:
    assert not is_loopback("https://localhost.example.com")
    assert is_loopback("http://localhost:1")


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]"]
)
@pytest.mark.parametrize(("name", "given"), [("NO_PROXY", None), ("NO_PROXY", "a.example"), ("no_proxy", "a.example")])
def test_botocore_asks_no_proxy_for_metadata(host: str, name: str, given: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", PROXY)
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
