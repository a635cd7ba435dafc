"""What holds for every dso.yaml: it is read, or refused with a ConfigError that shows no credential."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dso.config.load import load_config, load_project
from dso.errors import ConfigError

if TYPE_CHECKING:
    from dso.config.model import CloudConfig

CANARY = "hvs.CANARY"
ENVIRONMENT = {"TOKEN": CANARY, "EMPTY": ""}
TOKENS = [
    *["version", "providers", "secrets", "access", "agent", "type", "vault", "aws", "acme", "auth", "method", "token"],
    *[
        "name",
        "path",
        "inject",
        "file",
        "mode",
        "mappings",
        "targets",
        "services",
        "env",
        "timeout",
        "1",
        "0400",
        "10s",
    ],
    *[
        "${TOKEN}",
        "${NONE}",
        "${NONE:-x}",
        "${",
        "$$",
        "}",
        "{",
        "[",
        "]",
        ": ",
        ":",
        ", ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
    ],
    *[
        "'",
        '"',
        "#",
        "&a ",
        "*a",
        "<<: ",
        "!x ",
        "|\n",
        ">\n",
        "? ",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "\t",
        "@",
        "`",
        "\\",
    ],
    *['"\\ud800"', '"\\U00110000"', '"\\0"', "!<tag:x> ", "%TAG ! x\n", "é", "\x85", "\u2028", "\ufeff", "\r"],
]
SOUP = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)
GOOD = "version: 1\nproviders: {p: {type: acme}}\n"
KEYS = st.sampled_from(
    [
        *["version", "providers", "secrets", "access", "agent", "type", "auth", "method", "name", "provider", "env"],
        *["path", "mappings", "targets", "labels", "services", "timeout", "tls", "address", "uid", "mode", "socket"],
        *["inject", "x"],
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.sampled_from(["vault", "aws", "acme", "token", "file", "env", "0400", "5m", "p", "a/b", "${TOKEN}", "${NONE}"]),
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25
)


def _read(text: str) -> CloudConfig | None:
    """The configuration, or None for one that is refused; any other exception fails the test."""
    found = None
    for load in (load_project, load_config):
        try:
            found = load("dso.yaml", environment=ENVIRONMENT, text=text)
        except ConfigError as error:
            found = None
            assert error.hint  # noqa: PT017
            assert CANARY not in error.message + error.hint  # noqa: PT017
            assert error.message.startswith(("dso.yaml, line ", "dso.yaml has ", "dso.yaml is "))  # noqa: PT017
            assert error.message.isprintable() or error.message.count("\n") >= 2  # noqa: PT017
    return found


@given(st.text())
@example("version: 1\nproviders: {a: ${TOKEN}")
@example("\x85version: 1")
@example("\ufeff\ufeffversion: 1")
def test_any_text_is_read_or_refused(text: str) -> None:
    _read(text)
    _read(GOOD + text)


@settings(max_examples=300)
@given(SOUP)
@example("${TOKEN}\x85---\n")
@example("a: ${TOKEN}\n...\n")
def test_anything_like_yaml_is_read_or_refused(text: str) -> None:
    _read(text)
    _read(GOOD + text)
    _read(f"{GOOD}x: {{{text}}}")


@settings(max_examples=300)
@given(TREES)
def test_any_tree_is_read_or_refused(tree: Any) -> None:
    _read(json.dumps(tree, ensure_ascii=False))
    _read(json.dumps({"version": 1, "providers": tree}))
    _read(json.dumps({"version": 1, "providers": {"p": tree}}))
    _read(
        json.dumps({"version": 1, "providers": {"p": {"type": "acme"}}, "secrets": tree, "agent": tree, "access": tree})
    )


@given(
    st.sampled_from(["token: {}", "method: {}", "auth: {}", "address: {}", "{}", "timeout: {}", "env: [{}]", "{}: x"]),
    st.sampled_from(
        ["", " ", "'", '"', ": ", "#", " #", "{", "}", "[", ",", "&", "*", "!", "|", ">", "%", "@", "\t", "\\"]
    ),
    st.sampled_from(["", "'", '"', ":", " ", "}", "]", ", x", "\n", "\n  y", "!", "$"]),
)
def test_no_malformed_credential_is_shown(key: str, before: str, after: str) -> None:
    """A credential as a value with the quotes, braces and colons that people forget or leave over."""
    written = key.replace("{}", before + "secret-of-mine" + after)
    for text in (
        f"version: 1\nproviders:\n  hashi:\n    type: vault\n    {written}\n",
        f"version: 1\nproviders: {{hashi: {{type: vault, {written}}}}}\n",
    ):
        try:
            load_config("dso.yaml", environment={}, text=text)
        except ConfigError as error:
            said = error.message + error.hint
            assert "secret-of-mine" not in said or key == "{}: x" or ":" in before + after, said


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


@given(VALUES)
def test_a_variable_reaches_the_plugin_as_it_is(value: str) -> None:
    text = "version: 1\nproviders: {p: {type: acme, a: ${A}, b: 'x${A}', c: {d: [${NONE:-${A}}]}}}"
    config = load_config("dso.yaml", environment={"A": value}, text=text)
    assert config.providers["p"].settings.reveal() == {"a": value, "b": f"x{value}", "c": {"d": [value]}}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00", max_codepoint=0xFFFF), min_size=1))
def test_text_in_double_quotes_is_read_as_json_reads_it(value: str) -> None:
    written = json.dumps(value.replace("$", "$$"))
    config = load_config("dso.yaml", environment={}, text=f"version: 1\nproviders: {{p: {{type: acme, a: {written}}}}}")
    assert config.providers["p"].settings.reveal() == {"a": value}
