"""What a good dso.yaml becomes."""

from __future__ import annotations

import os
import re
import textwrap

import pytest

from dso.config.load import MAX_BYTES, load_config, load_project, load_socket
from dso.config.model import AccessRule, AgentConfig, CloudConfig, Inject, SecretConfig, Settings, Targets
from dso.errors import ConfigError

DESIGN = """
version: 1
providers:
  vault-prod:
    type: vault                     # vault | aws | azure | huawei
    address: https://vault.example.com:8200
    mount: secret                   # KV v2
    namespace: team-a
    auth: {method: token, token: ${VAULT_TOKEN}}     # token | token_file | approle | userpass | kubernetes
    tls: {ca_cert: /etc/dso/ca.pem}
    timeout: 10s
    cache_ttl: 5m
  aws-east:   {type: aws, region: us-east-1, profile: prod, role_arn: arn:aws:iam::1:role/x, endpoint_url: http://localhost:4566}
  azure-main: {type: azure, vault_url: https://x.vault.azure.net/, auth: {method: default}}
  huawei:     {type: huawei, region: ap-southeast-3, project_id: abc, auth: {method: aksk, access_key: ${HUAWEI_ACCESS_KEY}, secret_key: ${HUAWEI_SECRET_KEY}}}
secrets:
  - name: prod/db
    provider: vault-prod
    path: prod/db                   # default: name
    inject: {type: env}             # env | file (path, uid, gid, mode)
    mappings: {password: DB_PASSWORD, username: DB_USER}     # provider field -> variable
    targets: {services: [api, worker], labels: {tier: backend}}   # default: every service that declares the variable
agent: {socket: /var/run/dso.sock, log_level: info, log_format: text}
"""  # noqa: E501
ENVIRONMENT = {"VAULT_TOKEN": "hvs.abc", "HUAWEI_ACCESS_KEY": "AK}{", "HUAWEI_SECRET_KEY": "S:K, ${NOT}"}
PLUGIN = "version: 1\nproviders: {plug: {type: acme}}\n"


def load(text: str, **environment: str) -> CloudConfig:
    return load_config("dso.yaml", environment=environment, text=textwrap.dedent(text))


def settings(text: str, **environment: str) -> dict[str, object]:
    """What a plugin gets of the settings in `text`, a flow mapping without its braces."""
    return (
        load(f"version: 1\nproviders: {{plug: {{type: acme, {text}}}}}", **environment)
        .providers["plug"]
        .settings.reveal()
    )


def secret(text: str) -> SecretConfig:
    """The one entry in `text`, a flow mapping without its braces."""
    return load(f"{PLUGIN}secrets: [{{name: prod/db, provider: plug, {text}}}]").secrets["prod/db"]


def test_the_example_of_the_design() -> None:
    config = load(DESIGN, **ENVIRONMENT)
    assert config.path == "dso.yaml"
    assert [(one.name, one.type) for one in config.providers.values()] == [
        ("vault-prod", "vault"),
        ("aws-east", "aws"),
        ("azure-main", "azure"),
        ("huawei", "huawei"),
    ]
    vault = config.providers["vault-prod"]
    assert (vault.timeout, vault.cache_ttl, vault.env) == (10.0, 300.0, ())
    assert vault.settings == Settings(
        {
            "address": "https://vault.example.com:8200",
            "mount": "secret",
            "namespace": "team-a",
            "auth": {"method": "token", "token": "hvs.abc"},
            "tls": {"ca_cert": "/etc/dso/ca.pem"},
        }
    )
    auth = config.providers["huawei"].settings.reveal()["auth"]
    assert auth == {"method": "aksk", "access_key": "AK}{", "secret_key": "S:K, ${NOT}"}
    assert config.secrets == {
        "prod/db": SecretConfig(
            "prod/db",
            "vault-prod",
            "prod/db",
            None,
            Inject("env"),
            (("password", "DB_PASSWORD"), ("username", "DB_USER")),
            Targets(("api", "worker"), (("tier", "backend"),)),
        )
    }
    assert config.access is None
    assert config.agent == AgentConfig(socket="/var/run/dso.sock")


def test_settings_do_not_show_themselves() -> None:
    assert "hvs.abc" not in repr(load(DESIGN, **ENVIRONMENT))


def test_the_least_there_can_be() -> None:
    config = load(PLUGIN)
    assert config.providers["plug"].settings == Settings({})
    assert (config.secrets, config.access, config.agent) == ({}, None, AgentConfig())


def test_sections_without_a_value_are_as_if_absent() -> None:
    config = load(f"{PLUGIN}secrets:\nagent: # nothing yet\n")
    assert (config.secrets, config.agent) == ({}, AgentConfig())


def test_the_path_of_a_secret_is_its_name_unless_given() -> None:
    assert secret("version: 3")[2:4] == ("prod/db", "3")
    assert secret("path: arn:aws:x, version: AWSPREVIOUS")[2:4] == ("arn:aws:x", "AWSPREVIOUS")


def test_files_with_owner_and_mode() -> None:
    found = secret(
        "inject: {type: file, path: /etc/db.json, uid: 1000, gid: '0', mode: 0400}, targets: {services: [api]}"
    )
    assert found.inject == Inject("file", "/etc/db.json", 1000, 0, 0o400)
    assert secret("inject: {type: file}, targets: {services: [api]}").inject == Inject("file", None, None, None, 0o444)


@pytest.mark.parametrize("written", ["0400", "'0400'", '"0400"', "0o400", "00400"])
def test_modes_are_octal_however_they_are_written(written: str) -> None:
    assert secret(f"inject: {{type: file, mode: {written}}}, targets: {{services: [api]}}").inject.mode == 0o400


def test_access_rules() -> None:
    config = load(
        f"""{PLUGIN}access:
  - {{group: deploy, secrets: ["prod/*"]}}
  - {{user: ann, users: [ben, "1000"], groups: [ops], secrets: ["*"]}}
"""
    )
    assert config.access == [
        AccessRule((), ("deploy",), ("prod/*",)),
        AccessRule(("ben", "1000", "ann"), ("ops",), ("*",)),
    ]
    assert load(f"{PLUGIN}access: []\n").access == []


def test_common_keys_of_providers_are_not_for_the_plugin() -> None:
    config = load(
        "version: 1\nproviders: {plug: {type: acme, timeout: 1m30s, cache_ttl: 0s, env: [HTTPS_PROXY], url: x}}"
    )
    plug = config.providers["plug"]
    assert (plug.timeout, plug.cache_ttl, plug.env) == (90.0, 0.0, ("HTTPS_PROXY",))
    assert plug.settings == Settings({"url": "x"})


def test_settings_of_other_plugins_are_what_they_look_like_to_a_person() -> None:
    assert settings("a: 1, b: -20, c: true, d: False, e: null, f: [1, {g: x}], h: {i: 0}, j: ''") == {
        "a": 1,
        "b": -20,
        "c": True,
        "d": False,
        "e": None,
        "f": [1, {"g": "x"}],
        "h": {"i": 0},
        "j": "",
    }


@pytest.mark.parametrize(
    "word",
    [
        *[
            "yes",
            "no",
            "on",
            "off",
            "1:30",
            "22:22",
            "0644",
            "0o644",
            "0x1F",
            "1.10",
            "1e3",
            "+1",
            ".inf",
            "2026-01-01",
        ],
        *["9" * 30, "012345678901", "-", "=", "1_000", "y", "NaN"],
    ],
)
def test_no_word_of_a_plugins_settings_turns_into_something_else(word: str) -> None:
    assert settings(f"a: {word}") == {"a": word}


def test_quotes_and_variables_make_text() -> None:
    assert settings("a: '1', b: \"true\", c: ${ONE}, d: 'null'", ONE="1") == {
        "a": "1",
        "b": "true",
        "c": "1",
        "d": "null",
    }


def test_known_numbers_and_truths_may_come_from_variables() -> None:
    text = """
        version: 1
        providers:
          hashi:
            type: vault
            address: ${ADDRESS}
            kv_version: ${KV:-1}
            timeout: ${TIMEOUT}s
            auth: {method: token_file, token_file: /run/token}
            tls: {skip_verify: "${SKIP}"}
    """
    hashi = load(text, ADDRESS="http://127.0.0.1:8200", TIMEOUT="3", SKIP="true").providers["hashi"]
    assert hashi.timeout == 3.0
    assert hashi.settings.reveal()["kv_version"] == 1
    assert hashi.settings.reveal()["tls"] == {"skip_verify": True}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${A}", "a value"),
        ("x${A}y${A}", "xa valueya value"),
        ("${NONE:-a, b: c # d}", "a, b: c # d"),
        ("${NONE:-{x}}", "{x}"),
        ("${NONE-}", ""),
        ("${EMPTY:-else}", "else"),
        ("${EMPTY-else}", ""),
        ("${A:?message}", "a value"),
        ("${A:-${NONE:?message}}", "a value"),
        ("${NONE:-${A}}", "a value"),
        ("${A:+set}", "set"),
        ("$${A}", "${A}"),
        ("a$$b", "a$b"),
        ("pa$word", "pa$word"),
        ("$A", "$A"),
        ("100$", "100$"),
        ("${A} and ${A} more", "a value and a value more"),
        ("https://${A}/x", "https://a value/x"),
    ],
)
@pytest.mark.parametrize("around", ["{}", '"{}"', "'{}'"])
def test_variables(written: str, value: str, around: str) -> None:
    assert settings(f"a: [{around.format(written)}, x]", A="a value", EMPTY="") == {"a": [value, "x"]}
    text = f"version: 1\nproviders:\n  plug:\n    type: acme\n    a: {around.format(written)}\n    b: x\n"
    if around == "{}" and (": " in written or " #" in written):
        return  # outside of braces YAML's own rules hold
    assert load(text, A="a value", EMPTY="").providers["plug"].settings.reveal() == {"a": value, "b": "x"}


def test_a_value_is_text_whatever_a_variable_holds() -> None:
    assert settings("a: ${A}", A='"}, type: evil, b: [') == {"a": '"}, type: evil, b: ['}


def test_keys_are_taken_as_written() -> None:
    assert settings("'${A}': 1", A="b") == {"${A}": 1}


def test_anchors_and_merge_keys() -> None:
    config = load(
        """
        version: 1
        x-aws: &aws {type: aws, region: eu-west-1, timeout: 3s}
        providers:
          one: {<<: *aws, region: us-east-1}
          two:
            <<: [*aws, {profile: prod, region: unused-1}]
        """
    )
    assert config.providers["one"].settings == Settings({"region": "us-east-1"})
    assert config.providers["two"].settings == Settings({"region": "eu-west-1", "profile": "prod"})
    assert config.providers["two"].timeout == 3.0


def test_names_and_order_are_kept() -> None:
    entries = "".join(f"- {{name: s/{number}, provider: plug}}\n" for number in range(20))
    assert list(load(f"{PLUGIN}secrets:\n{entries}").secrets) == [f"s/{number}" for number in range(20)]


def test_a_project_needs_no_credentials() -> None:
    project = load_project("dso.yaml", environment={"HOME": "/"}, text=DESIGN)
    assert [(one.name, one.type, one.settings) for one in project.providers.values()] == [
        ("vault-prod", "vault", Settings({})),
        ("aws-east", "aws", Settings({})),
        ("azure-main", "azure", Settings({})),
        ("huawei", "huawei", Settings({})),
    ]
    assert project.secrets == load(DESIGN, **ENVIRONMENT).secrets
    assert project.agent == AgentConfig(socket="/var/run/dso.sock")


def test_a_project_may_name_the_agents_providers() -> None:
    text = "version: 1\nsecrets: [{name: shop/db, provider: vault-prod, path: '${PREFIX}/db'}]"
    project = load_project("dso.yaml", environment={"PREFIX": "prod"}, text=text)
    assert project.providers == {}
    assert project.secrets["shop/db"] == SecretConfig("shop/db", "vault-prod", "prod/db")


def test_a_projects_rules_for_access_count_for_nobody() -> None:
    text = f"{PLUGIN}access: [{{user: '${{NOBODY_KNOWS}}', secrets: ['*']}}]"
    assert load_project("dso.yaml", environment={}, text=text).access is None


def test_a_projects_providers_are_checked_but_for_values_with_variables() -> None:
    text = "version: 1\nproviders: {v: {type: vault, address: '${X}', adress: y, auth: {method: token, token: '${Y}'}}}"
    with pytest.raises(ConfigError) as caught:
        load_project("dso.yaml", environment={}, text=text)
    assert caught.value.message == "dso.yaml, line 2: providers.v.adress: unknown key; did you mean address?"


def test_a_projects_secrets_do_need_their_variables() -> None:
    text = "version: 1\nsecrets: [{name: '${STAGE}/db', provider: p}]"
    with pytest.raises(ConfigError, match="STAGE is not set"):
        load_project("dso.yaml", environment={}, text=text)


def test_the_socket_is_found_without_looking_at_the_rest(tmp_path) -> None:
    file = tmp_path / "dso.yaml"
    file.write_text("version: 9\nproviders: {v: {token: '${NONE}'}}\nagent: {socket: '${RUN}/dso.sock', other: 1}\n")
    assert load_socket(str(file), environment={"RUN": "/run/x"}) == "/run/x/dso.sock"
    with pytest.raises(ConfigError, match=re.escape("line 3: agent.socket: the variable RUN is not set")):
        load_socket(str(file), environment={})
    for text in ("version: 1\n", "- a\n", "agent: {}\n", "agent: debug\n"):
        file.write_text(text)
        assert load_socket(str(file), environment={}) is None


def test_a_file_is_read(tmp_path) -> None:
    file = tmp_path / "dso.yaml"
    for content in (PLUGIN.encode(), b"\xef\xbb\xbf" + PLUGIN.encode(), PLUGIN.replace("\n", "\r\n").encode()):
        file.write_bytes(content)
        config = load_config(str(file), environment={})
        assert (config.path, list(config.providers)) == (str(file), ["plug"])


def test_a_pipe_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    os.write(writing, PLUGIN.encode())
    os.close(writing)
    try:
        assert list(load_config(f"/proc/self/fd/{reading}", environment={}).providers) == ["plug"]
    finally:
        os.close(reading)


def _refused(path: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), environment={})
    assert caught.value.hint
    return caught.value.message.replace(str(path), "FILE")


def test_a_missing_file() -> None:
    assert _refused("/nowhere/dso.yaml") == "there is no FILE"


def test_a_directory(tmp_path) -> None:
    assert _refused(tmp_path) == "FILE is a directory"


def test_a_file_nobody_may_read(tmp_path, monkeypatch) -> None:
    def refuse(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert _refused(tmp_path / "dso.yaml") == "this user may not read FILE"


def test_a_name_that_can_be_no_file() -> None:
    assert _refused("a\0b") == "FILE cannot be read: no such name"


def test_a_pipe_without_a_writer_does_not_hang(tmp_path) -> None:
    os.mkfifo(tmp_path / "dso.yaml")
    assert _refused(tmp_path / "dso.yaml") == "FILE is empty"


def test_an_endless_file_is_not_read_to_its_end() -> None:
    assert _refused("/dev/zero") == "FILE is larger than 1024 KiB"


def test_the_largest_file(tmp_path) -> None:
    file = tmp_path / "dso.yaml"
    file.write_text(PLUGIN + "#" * (MAX_BYTES - len(PLUGIN)))
    assert load_config(str(file), environment={})
    file.write_text(PLUGIN + "#" * (MAX_BYTES - len(PLUGIN) + 1))
    assert _refused(file) == "FILE is larger than 1024 KiB"


def test_bytes_that_are_not_utf8(tmp_path) -> None:
    file = tmp_path / "dso.yaml"
    file.write_bytes(b"version: 1\n# caf\xe9\n")
    assert _refused(file) == "FILE, line 2: is not UTF-8"
    file.write_bytes(PLUGIN.encode("utf-16"))
    assert _refused(file) == "FILE, line 1: is not UTF-8"


@pytest.mark.parametrize("content", ["", "\n\n", "# only words\n", "---\n", "null\n"])
def test_an_empty_file(tmp_path, content: str) -> None:
    file = tmp_path / "dso.yaml"
    file.write_text(content)
    assert _refused(file) == "FILE is empty"
