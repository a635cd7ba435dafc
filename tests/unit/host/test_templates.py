"""The dso.yaml and agent.env that setup writes are what the agent reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.config import dotenv
from dso.config.load import load_config
from dso.config.provider_schema import TYPES
from dso.host.templates import TEMPLATES, config_text, environment_text, is_writable, quoted, variables_of

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUES = {
    "VAULT_ADDR": "https://vault.example.com:8200",
    "AZURE_VAULT_URL": "https://x.vault.azure.net/",
    "AWS_REGION": "us-east-1",
    "HUAWEI_REGION": "ap-southeast-3",
}
ANY = "0123456789abcdef"  # what every other variable may be


class Environment(dict[str, str]):
    """Every variable has a value."""

    def __missing__(self, name: str) -> str:
        return ANY

    def get(self, name: str, default: object = None) -> str:
        return self[name]

    def __contains__(self, name: object) -> bool:
        return True


def options(kind: str) -> Iterator[tuple[str, str]]:
    """The commented keys of a provider, with their value."""
    for line in TEMPLATES[kind].lines.splitlines():
        body = line.removeprefix("    # ")
        key, colon, value = body.partition(": ")
        if body != line and colon and key.replace("_", "").isalpha() and key.islower():
            yield key, value.partition("  #")[0]


def active(kind: str) -> dict[str, str]:
    lines = [line.strip() for line in TEMPLATES[kind].lines.splitlines() if not line.lstrip().startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("kinds", [[kind] for kind in TEMPLATES] + [list(TEMPLATES)], ids=" ".join)
def test_the_template_loads_once_its_needed_variables_have_values(kinds: list[str]) -> None:
    needed = {one.name: VALUES.get(one.name, ANY) for one in variables_of(kinds) if one.is_needed}
    config = load_config("dso.yaml", environment=needed, text=config_text(kinds))
    assert {name: one.type for name, one in config.providers.items()} == {kind: kind for kind in kinds}
    assert not config.secrets


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_template_shows_every_key_there_is_and_no_other(kind: str) -> None:
    assert {key for key, _ in options(kind)} | set(active(kind)) == set(TYPES[kind].keys)


@pytest.mark.parametrize("kind", [kind for kind in TEMPLATES if "auth" in TYPES[kind].keys])
def test_every_way_to_log_in_is_shown(kind: str) -> None:
    ways = [value for key, value in [*options(kind), *active(kind).items()] if key == "auth"]
    shown = [re.findall(r"method: (\w+)", way)[0] for way in ways]
    assert sorted(shown) == sorted(TYPES[kind].keys["auth"].kind.variants)  # type: ignore[attr-defined]


NEIGHBOURS = {  # keys that make sense only with others
    "access_key_id": ["secret_access_key"],
    "secret_access_key": ["access_key_id"],
    "session_token": ["access_key_id", "secret_access_key"],
    "external_id": ["role_arn"],
    "session_name": ["role_arn"],
    "sts_endpoint_url": ["role_arn"],
}


@pytest.mark.parametrize(("kind", "number"), [(kind, n) for kind in TEMPLATES for n in range(len(list(options(kind))))])
def test_a_commented_line_works_when_it_is_uncommented(kind: str, number: int) -> None:
    every = list(options(kind))
    key, value = every[number]
    lines = {**active(kind), key: value}
    for other in NEIGHBOURS.get(key, []):
        lines[other] = dict(every)[other]
    text = "version: 1\nproviders:\n  it:\n" + "".join(f"    {name}: {what}\n" for name, what in lines.items())
    load_config("dso.yaml", environment=Environment(VALUES), text=text)


def test_the_commented_sections_work_when_they_are_uncommented() -> None:
    head, _, tail = config_text(["aws"]).partition("# secrets:")
    lines = [line.removeprefix("# ") for line in ("# secrets:" + tail).splitlines() if not line.startswith("# Who may")]
    config = load_config("dso.yaml", environment=VALUES, text=head + "\n".join(lines))
    assert list(config.secrets) == ["shop/db"]
    assert config.access is not None


def test_values_stand_in_agent_env_and_the_others_are_commented() -> None:
    text = environment_text(["vault", "aws"], {"VAULT_TOKEN": "s.it's $ecret", "AWS_REGION": ""})
    assert dotenv.parse(text) == {"VAULT_TOKEN": "s.it's $ecret"}
    assert "#VAULT_ADDR=\n" in text
    assert "#AWS_REGION=\n" in text


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" '\"\\$`#"), min_size=1, max_size=30))
def test_any_value_comes_back_from_agent_env(value: str) -> None:
    if is_writable(value):
        assert dotenv.parse(f"NAME={quoted(value)}\nNEXT=1\n") == {"NAME": value, "NEXT": "1"}


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\x1b[2J", "a\x00b"])
def test_line_breaks_and_control_characters_cannot_stand_in_agent_env(value: str) -> None:
    assert not is_writable(value)
