"""Which proxy the environment has for an address."""

from __future__ import annotations

import pytest

from dso.providers.proxies import UnsupportedProxyError, is_loopback, proxy_for

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
    assert str(caught.value) == "socks5"


def test_names_that_begin_like_this_machine_are_others() -> None:
    assert not is_loopback("https://localhost.example.com")
    assert is_loopback("http://localhost:1")
