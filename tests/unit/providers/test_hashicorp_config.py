"""The settings of `type: vault`: what is accepted, what is refused, and that no value shows."""

from __future__ import annotations

from typing import Any

import pytest

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import ProviderError
from dso.providers.hashicorp_config import KUBERNETES_JWT, HashicorpConfig

TOKEN = {"method": "token", "token": "hvs.canary"}


def read(**settings: Any) -> HashicorpConfig:
    return HashicorpConfig.read("v", {"address": "https://vault.example.com:8200", "auth": TOKEN, **settings})


def refused(**settings: Any) -> str:
    with pytest.raises(ProviderError) as caught:
        read(**settings)
    assert caught.value.code == INVALID_CONFIG
    assert caught.value.message.startswith("provider v: ")
    assert "canary" not in caught.value.message
    return caught.value.message


def test_defaults():
    config = read()
    assert (config.mount, config.namespace, config.kv_version) == ("secret", None, 2)
    assert config.auth.parameters.reveal() == {"token": "hvs.canary"}
    assert not config.tls.skip_verify


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://v.example.com/", "https://v.example.com"),
        ("https://v.example.com/v1/", "https://v.example.com"),
        ("https://v.example.com/prefix/", "https://v.example.com/prefix"),
        ("http://[::1]:8200", "http://[::1]:8200"),
    ],
)
def test_address_is_kept_without_its_end(given: str, kept: str):
    assert read(address=given).address == kept


@pytest.mark.parametrize(
    "address",
    [
        *("vault.example.com", "ftp://v", "https://", "https://v:99999", "https://v:0", "https://v?x=1", "https://v#x"),
        *("https://v v", "https://v\nx", "https://[::1", "https://vé", 5, "", None),
    ],
)
def test_address_that_leads_nowhere_is_refused(address: object):
    assert "address" in refused(address=address)


def test_credentials_in_the_address_are_refused_without_showing_them():
    assert "under `auth`" in refused(address="https://user:canary@vault.example.com")


WRONG: dict[str, list[object]] = {
    "kv_version": [0, 3, "two", True, 2.0],
    "mount": ["", "a//b", "../x", " ", "a\nb", 7],
    "namespace": ["", "a\r\nX-Other: b", 7],
    "tls": ["canary", [], {"skip_verify": "yes"}, {"ca_cert": 5}, {"client_key": "k"}],
    "auth": ["canary", None, {}, {"method": "magic"}, {"method": "token"}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_setting_of_the_wrong_kind_is_named(key: str, value: object):
    assert f"`{key}" in refused(**{key: value})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"adress": "x"}, ["adress", "address"]),
        ({"auth": {**TOKEN, "tokne": "canary"}}, ["auth.tokne", "auth.token"]),
        ({"tls": {"cacert": "canary"}}, ["tls.cacert", "tls.ca_cert"]),
    ],
)
def test_unknown_key_gets_the_nearest_one(settings: dict[str, Any], words: list[str]):
    message = refused(**settings)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("auth", "word"),
    [
        ({"method": "token_file"}, "token_file"),
        ({"method": "approle", "secret_id": "canary"}, "role_id"),
        ({"method": "approle", "role_id": "r", "secret_id": "canary", "secret_id_file": "f"}, "secret_id_file"),
        ({"method": "userpass", "username": "u"}, "password"),
        ({"method": "userpass", "password": "canary"}, "username"),
        ({"method": "userpass", "username": "u", "password": "canary", "password_file": "f"}, "password_file"),
        ({"method": "kubernetes"}, "role"),
        ({"method": "jwt", "role": "r"}, "jwt"),
        ({"method": "token", "token": "hvs.canäry"}, "token"),
        ({"method": "token", "token": "hvs.canary\n"}, "token"),
        ({"method": "token", "token": "hvs.canary", "mount": "x"}, "mount"),
    ],
)
def test_method_says_what_it_lacks_or_has_too_much(auth: dict[str, str], word: str):
    assert f"`auth.{word}`" in refused(auth=auth)


def test_mounts_of_methods_and_files_have_defaults():
    kubernetes = read(auth={"method": "kubernetes", "role": "app"}).auth
    assert (kubernetes.mount, kubernetes.parameters.reveal()["jwt_file"]) == ("kubernetes", KUBERNETES_JWT)
    assert read(auth={"method": "approle", "role_id": "r", "mount": "auth/team/approle/"}).auth.mount == "team/approle"


def test_settings_show_no_credential():
    assert "canary" not in repr(read())
