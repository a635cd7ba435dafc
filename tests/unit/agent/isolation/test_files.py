"""Which files a plugin is handed, and where the settings then lead."""

from __future__ import annotations

import pytest

from dso.agent.isolation.files import KUBERNETES_JWT, Source, redirected, sources
from dso.config.provider_schema import TYPES, file_settings
from dso.providers import hashicorp_config


def labels(found: list[Source]) -> dict[str, str]:
    return {source.label: source.path for source in found}


@pytest.mark.parametrize(
    ("provider_type", "settings", "expected"),
    [
        (
            "vault",
            {"address": "https://x", "auth": {"method": "approle", "role_id": "r", "secret_id_file": "/a/id"}},
            {"auth.secret_id_file": "/a/id"},
        ),
        (
            "vault",
            {"tls": {"ca_cert": "/a/ca", "client_cert": "/a/c", "client_key": "/a/k", "skip_verify": False}},
            {"tls.ca_cert": "/a/ca", "tls.client_cert": "/a/c", "tls.client_key": "/a/k"},
        ),
        (
            "azure",
            {"auth": {"method": "client_certificate", "certificate_path": "/a/p"}},
            {"auth.certificate_path": "/a/p"},
        ),
        ("huawei", {"tls": {"ca_cert": "/a/ca"}}, {"tls.ca_cert": "/a/ca"}),
        ("acme", {"tls": {"ca_cert": "/a/ca"}}, {}),
        (
            "acme",
            {"login": {"token": "/run/credentials/dso-agent.service/token"}, "store": "/run/x"},
            {"login.token": "/run/credentials/dso-agent.service/token"},
        ),
    ],
)
def test_settings_that_name_files_are_known_by_the_schema(
    provider_type: str, settings: dict[str, object], expected: dict[str, str]
) -> None:
    assert labels(sources(provider_type, settings, {})) == expected


def test_every_key_that_sounds_like_a_file_is_one_of_the_schemas_files() -> None:
    for provider_type, section in TYPES.items():
        for outer, key in section.keys.items():
            for inner in key.kind.sections().values():
                for name in inner.keys:
                    if name.endswith(("_file", "_cert", "_path")) or name == "client_key":
                        settings = {outer: {name: "/a/file"}}
                        assert file_settings(provider_type, settings) == [((outer, name), "/a/file")], name


def test_the_token_of_a_kubernetes_service_account_is_handed_over_although_no_setting_names_it() -> None:
    assert hashicorp_config.KUBERNETES_JWT == KUBERNETES_JWT
    (found,) = sources("vault", {"auth": {"method": "kubernetes", "role": "r"}}, {})
    assert found == Source(KUBERNETES_JWT, setting=("auth", "jwt_file"))
    changed, _ = redirected({"auth": {"method": "kubernetes", "role": "r"}}, {}, {found: "/copy"})
    assert changed["auth"]["jwt_file"] == "/copy"
    (own,) = sources("vault", {"auth": {"method": "kubernetes", "role": "r", "jwt_file": "/a/jwt"}}, {})
    assert own.path == "/a/jwt"


def test_files_that_variables_name_are_handed_over_to_their_type_only() -> None:
    given = {
        "SSL_CERT_FILE": "/a/ca",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/a/token",
        "AZURE_FEDERATED_TOKEN_FILE": "/b/token",
    }
    assert labels(sources("vault", {}, given)) == {"SSL_CERT_FILE": "/a/ca"}
    assert labels(sources("azure", {}, given)) == {"SSL_CERT_FILE": "/a/ca", "AZURE_FEDERATED_TOKEN_FILE": "/b/token"}
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in labels(sources("aws", {}, given))


def test_aws_files_at_home_are_handed_over_unless_dso_yaml_has_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    found = labels(sources("aws", {}, {}))
    assert found == {
        "AWS_CONFIG_FILE": "/home/ann/.aws/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/home/ann/.aws/credentials",
    }
    keys = {"access_key_id": "k", "secret_access_key": "s"}
    assert "AWS_SHARED_CREDENTIALS_FILE" not in labels(sources("aws", keys, {}))


def test_settings_are_redirected_without_changing_the_ones_that_were_read() -> None:
    settings = {"tls": {"ca_cert": "/a/ca", "server_name": "x"}, "region": "r"}
    variables = {"SSL_CERT_FILE": "/b/ca"}
    places = {Source("/a/ca", ("tls", "ca_cert")): "/copy/1", Source("/b/ca", variable="SSL_CERT_FILE"): "/copy/2"}
    changed, told = redirected(settings, variables, places)
    assert changed == {"tls": {"ca_cert": "/copy/1", "server_name": "x"}, "region": "r"}
    assert told == {"SSL_CERT_FILE": "/copy/2"}
    assert settings["tls"] == {"ca_cert": "/a/ca", "server_name": "x"}
    assert variables == {"SSL_CERT_FILE": "/b/ca"}
