"""What a plugin finds in its environment, and what it never does."""

from __future__ import annotations

import pytest

from dso.agent.environment import plugin_environment
from dso.paths import PRIVATE_VARIABLES

BASE = {"PATH": "/bin", "HOME": "/root"}


def passed(provider_type: str, *names: str, **own: str) -> dict[str, str]:
    """What of the agent's own variables gets through, besides the usual ones."""
    found = plugin_environment(provider_type, names, {**BASE, **own})
    return {name: value for name, value in found.items() if name not in BASE}


def test_what_every_plugin_gets() -> None:
    everything = {
        **dict.fromkeys(["LANG", "LC_ALL", "TZ", "TMPDIR"], "a"),
        **dict.fromkeys(["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"], "b"),
        **dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"], "c"),
    }
    assert passed("third-party", **everything) == everything


@pytest.mark.parametrize("name", ["AGENT_SECRET", "LD_PRELOAD", "PYTHONPATH", "NOTIFY_SOCKET", "LISTEN_FDS", "USER"])
@pytest.mark.parametrize("provider_type", ["vault", "aws", "azure", "huawei", "third-party"])
def test_everything_else_stays_here(provider_type: str, name: str) -> None:
    assert passed(provider_type, **{name: "x"}) == {}


@pytest.mark.parametrize(
    ("provider_type", "names"),
    [
        (
            "aws",
            ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"],
        ),
        ("azure", ["AZURE_TENANT_ID", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET"]),
    ],
)
def test_credential_chain_of_one_type_is_for_that_type_alone(provider_type: str, names: list[str]) -> None:
    own = dict.fromkeys(names, "x")
    assert passed(provider_type, **own) == own
    for other in {"vault", "aws", "azure", "huawei", "third-party"} - {provider_type}:
        assert passed(other, **own) == {}


def test_hashicorps_and_huaweis_own_variables_do_not_override_dso_yaml() -> None:
    assert passed("vault", VAULT_ADDR="x", VAULT_TOKEN="x", VAULT_NAMESPACE="x") == {}
    assert passed("huawei", HUAWEICLOUD_SDK_AK="x", HUAWEICLOUD_SDK_SK="x", HUAWEICLOUD_SDK_REGIONS_FILE="x") == {}


def test_named_variables_are_passed_and_unset_ones_left_out() -> None:
    assert passed("vault", "ONE", "TWO", ONE="1", THREE="3") == {"ONE": "1"}


def test_name_in_the_configuration_is_no_pattern() -> None:
    assert passed("vault", "A*", "*", A="1", AB="2") == {}


@pytest.mark.parametrize("name", sorted(PRIVATE_VARIABLES))
def test_some_are_not_passed_even_when_named(name: str) -> None:
    assert name not in passed("vault", name, **{name: "x"})


def test_library_path_is_the_agents_own_and_passed_when_named() -> None:
    assert passed("vault", LD_LIBRARY_PATH="/opt/lib") == {}
    assert passed("vault", "LD_LIBRARY_PATH", LD_LIBRARY_PATH="/opt/lib") == {"LD_LIBRARY_PATH": "/opt/lib"}


def test_path_is_always_there() -> None:
    assert plugin_environment("vault", (), {})["PATH"].endswith("/usr/bin:/sbin:/bin")


def test_own_environment_is_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "yes")
    assert plugin_environment("vault", ["WANTED"])["WANTED"] == "yes"
