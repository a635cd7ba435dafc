"""The schema of dso.yaml: its page has every key, its plugins know the same ones, and good values pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from dso.config.kinds import Anything, Duration, ListOf, MapOf, Text
from dso.config.load import load_config, load_project
from dso.config.model import AgentConfig
from dso.config.provider_schema import COMMON, TYPES
from dso.config.schema import ACCESS, AGENT, FILE, INJECT, SECRET, TARGETS
from dso.config.sections import AgentsOwn, Section, Variants
from dso.errors import ConfigError
from dso.providers import aws_session, azure_config, hashicorp_config, huawei_config
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dso.config.kinds import Kind

with open(f"{ROOT}/docs/dso-yaml.md", encoding="utf-8") as _file:
    PAGE = _file.read()
with open(f"{ROOT}/README.md", encoding="utf-8") as _file:
    README = _file.read()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES += re.findall(r"```yaml\n(# /etc/dso/dso.yaml\n.*?)```", README, re.DOTALL)

TABLES: dict[str, Iterable[str]] = {
    "## The file": FILE.keys,
    "### Keys of every type": COMMON,
    **{f"### type: {name}": section.keys.keys() - COMMON.keys() for name, section in TYPES.items()},
    "#### tls, type: vault": TYPES["vault"].keys["tls"].kind.sections()[""].keys,
    "## secrets": SECRET.keys,
    "### inject": INJECT.keys,
    "### targets": TARGETS.keys,
    "## access": ACCESS.keys,
    "## agent": AGENT.keys,
}
METHODS = {
    f"#### auth, type: {name}": section.keys["auth"].kind.sections()
    for name, section in TYPES.items()
    if "auth" in section.keys
}


def rows(heading: str) -> dict[str, str]:
    """The rows of the table below a heading, by the word in their first column; their second column."""
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"the page has no heading {heading!r}"
    cells = [line.split("|") for line in found[1].splitlines() if re.match(r"\| `[a-z_.]+` \|", line)]
    return {cell[1].strip(" `"): cell[2] for cell in cells if cell[2].strip() != "keys"}


def sections_of(kind: Kind) -> Iterable[Section]:
    """All sections below a kind; those of other plugins have keys that nobody knows."""
    for section in kind.sections().values():
        yield section
        for key in section.keys.values():
            yield from sections_of(key.kind)


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_every_key_and_no_other(heading: str) -> None:
    documented = {name for name in rows(heading) if "." not in name}
    assert documented == set(TABLES[heading])


@pytest.mark.parametrize("heading", METHODS)
def test_the_page_has_every_method_and_its_keys(heading: str) -> None:
    table = rows(heading)
    assert table.keys() == METHODS[heading].keys()
    for method, section in METHODS[heading].items():
        assert set(re.findall(r"`([a-z_]+)`", table[method])) == section.keys.keys() - {"method"}, method


def test_no_section_was_left_out_of_these_tests() -> None:
    checked = [set(keys) for keys in TABLES.values()]
    checked += [set(section.keys) for methods in METHODS.values() for section in methods.values()]
    for section in sections_of(FILE):
        keys = section.keys.keys()
        assert keys in checked or keys - COMMON.keys() in checked or keys == {"ca_cert"}
    assert "ca_cert" in rows("### type: aws").keys() | {"ca_cert"} and "tls.ca_cert" in rows("### type: aws")  # noqa: PT018


def test_kinds_that_hold_others_tell_their_sections() -> None:
    inner = Section("inner", {})
    assert list(ListOf(inner, "").sections().values()) == [inner]
    assert list(MapOf(inner, "").sections().values()) == [inner]
    assert list(AgentsOwn(inner).sections().values()) == [inner]
    assert list(Variants("v", "by", {"a": {}, "b": {}}).sections()) == ["a", "b"]
    assert not Anything().sections()
    assert not Text().sections()
    assert not Duration().sections()


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_page_are_good(text: str) -> None:
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)", text), "/a-value")
    config = load_config("dso.yaml", environment=environment, text=text)
    assert config.providers
    project = load_project("dso.yaml", environment={"XDG_RUNTIME_DIR": "/a-value"}, text=text)
    assert (project.providers.keys(), project.secrets, project.agent) == (
        config.providers.keys(),
        config.secrets,
        config.agent,
    )


def test_the_message_on_the_page_is_what_is_said() -> None:
    text = "version: 1\nproviders:\n  vault-prod:\n    type: vault\n    adress: https://v\n    address: https://v\n\n"
    with pytest.raises(ConfigError) as caught:
        load_config(
            "/etc/dso/dso.yaml",
            environment={},
            text=f"{text}    auth:\n      {{method: token, token: ${{VAULT_TOKEN}}}}\n",
        )
    assert "    Error: " + caught.value.message.replace("\n", "\n    ") in PAGE


def test_the_agents_section_is_its_model() -> None:
    assert AGENT.keys.keys() == set(AgentConfig._fields)


def plugin_keys(method: hashicorp_config._Method) -> set[str]:
    keys = {key for choice in method.needed for key in choice} | set(method.optional) | {"method"}
    return keys | ({"mount"} if method.has_mount else set())


def test_hashicorps_provider_knows_the_same_keys() -> None:
    vault = TYPES["vault"]
    methods: Mapping[str, Section] = vault.keys["auth"].kind.sections()
    assert vault.keys.keys() - COMMON.keys() == {*hashicorp_config.HashicorpConfig._fields} - {"name"}
    assert vault.keys["tls"].kind.sections()[""].keys.keys() == {*hashicorp_config.Tls._fields}
    assert {name: section.keys.keys() for name, section in methods.items()} == {
        name: plugin_keys(method) for name, method in hashicorp_config.METHODS.items()
    }


def test_aws_provider_knows_the_same_keys() -> None:
    assert TYPES["aws"].keys.keys() - COMMON.keys() == {*aws_session.Settings._fields} - {"ca_cert"} | {"tls"}


GOOD = {
    "vault": [
        "address: https://v.example.com/prefix, auth: {method: token, token: x}",
        "address: http://127.0.0.1:8200, auth: {method: token_file, token_file: /run/token}",
        "address: https://v, auth: {method: approle, role_id_file: /r, secret_id_file: /s, mount: apps/approle}",
        "address: https://v, auth: {method: approle, role_id: r}",
        "address: https://v, auth: {method: userpass, username: a, password_file: /p}",
        "address: https://v, auth: {method: kubernetes, role: dso}",
        "address: https://v, auth: {method: jwt, jwt: x}, kv_version: 1, namespace: a/b, mount: kv",
        "address: https://v, auth: {method: token, token: x}, tls: {client_cert: /c.pem, client_key: /k.pem}",
    ],
    "aws": [
        "",
        "region: us-east-1, access_key_id: a, secret_access_key: b, session_token: c",
        "role_arn: arn:aws:iam::1:role/x, external_id: e, session_name: dso, sts_endpoint_url: http://localhost:1",
    ],
    "azure": [
        "vault_url: https://x.vault.azure.cn/, authority: login.chinacloudapi.cn",
        "vault_url: https://x, auth: {method: client_secret, tenant_id: t, client_id: c, client_secret: s}",
        "vault_url: https://x, auth: {method: client_certificate, tenant_id: t, client_id: c, certificate_path: /c}",
        "vault_url: https://x, auth: {method: managed_identity, client_id: c}",
        "vault_url: https://x, auth: {method: workload_identity}",
        "vault_url: https://x, auth: {}",
    ],
    "huawei": [
        "region: ap-southeast-3, auth: {method: agency}, endpoint: https://csms.example.com, project_id: p",
        "region: ap-southeast-3, auth: {method: aksk, access_key: a, secret_key: b, security_token: c}",
        "region: x-9, auth: {method: agency}, endpoint: https://kms.example.com:8443, iam_endpoint: https://i.example.com/",
    ],
}


@pytest.mark.parametrize(("type_", "text"), [(name, text) for name, texts in GOOD.items() for text in texts])
def test_good_settings_reach_the_provider(type_: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.setenv(name, "of-kubernetes")
    config = load_config("f", environment={}, text=f"version: 1\nproviders: {{p: {{type: {type_}, {text}}}}}")
    settings = config.providers["p"].settings.reveal()
    if type_ == "vault":
        assert hashicorp_config.HashicorpConfig.read("p", settings)
    elif type_ == "aws":
        assert aws_session.read_settings("p", settings)
    elif type_ == "azure":
        assert azure_config.AzureConfig.read("p", settings)
    elif type_ == "huawei":
        assert huawei_config.HuaweiConfig.read("p", settings)


def test_the_methods_of_azure_and_their_keys_are_those_of_the_plugin() -> None:
    sections = TYPES["azure"].keys["auth"].kind.sections()
    assert sections.keys() == azure_config.METHODS.keys()
    for method, section in sections.items():
        needed, optional = azure_config.METHODS[method]
        keys = {name: key for name, key in section.keys.items() if name != "method"}
        assert keys.keys() == {*needed, *optional}, method
        assert {name for name, key in keys.items() if key.required} == set(needed), method
