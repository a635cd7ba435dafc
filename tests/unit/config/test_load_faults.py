"""What a faulty dso.yaml is told: a fixture for each fault, and what holds for all of them."""

from __future__ import annotations

import os

import pytest
import yaml

from dso.config.load import load_config
from dso.errors import ConfigError
from tests.support.process import ROOT

FAULTS = f"{ROOT}/tests/fixtures/config/faults"
NAMES = sorted(name.removesuffix(".yaml") for name in os.listdir(FAULTS) if name.endswith(".yaml"))
ENVIRONMENT = {"TOKEN": "hvs.canary-of-the-environment", "EMPTY": "", "BYTES": "a\udcffb"}


def said_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("dso.yaml", environment=ENVIRONMENT, text=text)
    assert caught.value.__cause__ is None
    return f"{caught.value.message}\nhint: {caught.value.hint}\n"


def content(name: str) -> str:
    with open(f"{FAULTS}/{name}", encoding="utf-8", newline="") as file:
        return file.read()


@pytest.mark.parametrize("with_libyaml", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_told_with_its_line_and_a_hint(name: str, with_libyaml: bool, monkeypatch) -> None:
    assert yaml.__with_libyaml__
    monkeypatch.setattr(yaml, "__with_libyaml__", with_libyaml)
    said = said_of(content(f"{name}.yaml"))
    assert said == content(f"{name}.txt")
    assert name == "empty" or "line " in said
    assert "canary" not in said


def test_every_fixture_has_both_files() -> None:
    assert len(NAMES) > 70
    assert sorted(os.listdir(FAULTS)) == sorted(f"{name}.{end}" for name in NAMES for end in ("yaml", "txt"))


def test_faults_come_in_the_order_of_lines_and_each_once() -> None:
    said = said_of("version: 1\nproviders:\n  b: {type: aws, x: 1}\n  a: {type: aws, x: 1}\nagent: {y: 1}\n")
    assert [line.split()[1] for line in said.splitlines()[1:-1]] == ["3:", "4:", "5:"]


def test_a_value_that_is_used_twice_by_an_alias_is_one_fault_for_each_place() -> None:
    said = said_of("version: 1\nproviders: {a: {type: acme, env: &e [A=B]}, b: {type: acme, env: *e}}\n")
    assert "providers.a.env[0]" in said
    assert "providers.b.env[0]" in said


def test_a_flood_of_faults_is_cut() -> None:
    said = said_of("version: 1\nproviders: {p: {type: acme}}\nagent:\n" + "".join(f"  k{n}: 1\n" for n in range(100)))
    assert said.startswith("dso.yaml has 100 faults:\n  line 4: agent.k0: unknown key")
    assert said.splitlines()[-2] == "  and 60 more"


def test_a_long_or_unprintable_key_is_shown_harmlessly() -> None:
    said = said_of(f'version: 1\nproviders: {{p: {{type: acme}}}}\n"\\e[31m": 1\n{"k" * 500}: 1\n')
    assert r"'\x1b[31m': unknown key" in said
    assert f"{'k' * 60}...: unknown key" in said


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_are_counted_as_an_editor_does(ending: str) -> None:
    text = ending.join(["version: 1", "", "# words", "providers:", "  p: {type: acme}", "agnt: {}", ""])
    assert said_of(text).startswith("dso.yaml, line 6: agnt: unknown key; did you mean agent?")


def test_the_line_of_a_value_below_its_key() -> None:
    text = "version: 1\nproviders:\n  p:\n    type: acme\n    timeout:\n\n      10\n"
    assert said_of(text).startswith("dso.yaml, line 7: providers.p.timeout: ")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("address: 'canary://x'", "address"),
        ("kv_version: canary", "kv_version"),
        ("auth: {method: canary, token: x}", "auth.method"),
        ("timeout: canary", "timeout"),
        ("env: [canary=1]", "env[0]"),
        ("tls: {skip_verify: canary}", "tls.skip_verify"),
        ('namespace: "canary\\n"', "namespace"),
    ],
)
def test_a_providers_values_are_never_quoted(settings: str, key: str) -> None:
    said = said_of(f"version: 1\nproviders:\n  hashi:\n    type: vault\n    {settings}\n")
    assert f"providers.hashi.{key}: " in said
    assert "canary" not in said


@pytest.mark.parametrize(
    "secret",
    [
        "{name: '${TOKEN}//', provider: p}",
        "{name: a/b, provider: '${TOKEN}'}",
        "{name: '${TOKEN}', provider: p}, {name: '${TOKEN}', provider: p}",
        "{name: a/b, provider: p, path: '../${TOKEN}'}",
        "{name: a/b, provider: p, mappings: {a: '${TOKEN}', b: A, c: A}}",
        "{name: a/b, provider: p, mappings: {a: A}, inject: {type: '${TOKEN}'}}",
        "{name: a/b, provider: p, targets: {services: [x]}, inject: {type: file, mode: '${TOKEN}', uid: '${TOKEN}'}}",
    ],
)
def test_what_a_variable_holds_is_never_quoted(secret: str) -> None:
    assert "canary" not in said_of(f"version: 1\nproviders: {{p: {{type: acme}}}}\nsecrets: [{secret}]\n")
