"""What a project's dso.yaml takes of ours, as it is asked about; and what none of them ever gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.config.load import Wishes, load_config, load_project, load_socket, load_wishes
from dso.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = "version: 1\n"
ENTRY = HEAD + "secrets:\n  - {name: a/b, provider: p, path: %s}\n"
ENVIRONMENT = {"A": "a", "EMPTY": "", paths.MASTER_KEY_VARIABLE: "k" * 64, paths.PASSPHRASE_FILE_VARIABLE: "/f"}


def wishes(text: str) -> Wishes:
    return load_wishes("dso.yaml", environment=ENVIRONMENT, text=text)


@pytest.mark.parametrize(
    ("text", "socket", "variables"),
    [
        (ENTRY % "plain", None, ()),
        (ENTRY % "costs $5 or $$A", None, ()),
        (ENTRY % "'${A}/${B:-x}'", None, ("A", "B")),
        (ENTRY % '"\\x24{A}"', None, ("A",)),
        (ENTRY % "'${EMPTY:-${A}}'", None, ("A", "EMPTY")),
        (ENTRY % "'${NOT_SET}'", None, ("NOT_SET",)),
        (HEAD + "agent: {socket: /x.sock}\n", "/x.sock", ()),
        (HEAD + 'agent: {"\\x73ocket": "${A:+/y}.sock"}\n', "/y.sock", ("A",)),
        (HEAD + "providers: {p: {type: vault, address: '${A}', auth: {token: '${A}'}}}\n", None, ()),
        (HEAD + "agent: {state_dir: '${A}', plugin_dir: '/${A}'}\naccess: [{user: '${A}', secrets: [x]}]\n", None, ()),
        ("agent: {socket: /x.sock}\nunknown: '${A}'\n", "/x.sock", ()),
        ("nothing of a YAML: [", None, ()),
    ],
)
def test_what_a_file_takes_is_what_reading_it_looks_up(
    text: str, socket: str | None, variables: tuple[str, ...]
) -> None:
    found = wishes(text)
    assert found == Wishes(socket, variables)
    assert bool(found) == bool(socket or variables)


@pytest.mark.parametrize("read", [load_config, load_project])
@pytest.mark.parametrize("variable", paths.PRIVATE_VARIABLES)
@pytest.mark.parametrize("form", ["${%s}", "${%s:-x}", "${%s-x}", "${%s:+x}", "${%s?no}", "${NOT_SET:-${%s}}"])
def test_no_file_gets_a_variable_of_dso_s_own(read: Callable[..., object], variable: str, form: str) -> None:
    text = ENTRY % f"'k={form % variable}'" + "providers: {p: {type: vault, address: 'https://x', auth: {token: t}}}\n"
    with pytest.raises(ConfigError) as caught:
        read("dso.yaml", environment=ENVIRONMENT, text=text)
    assert f"the variable {variable}, which is DSO's own" in caught.value.message
    assert "kkk" not in caught.value.message + caught.value.hint


def test_neither_do_a_socket_a_provider_and_a_plugin() -> None:
    key = paths.MASTER_KEY_VARIABLE
    with pytest.raises(ConfigError, match="DSO's own"):
        load_socket("dso.yaml", environment=ENVIRONMENT, text=HEAD + f"agent: {{socket: '/${{{key}}}'}}\n")
    for settings in (f"address: 'https://${{{key}}}'", f"address: 'https://x', env: [{key}]"):
        text = HEAD + f"providers: {{p: {{type: vault, {settings}, auth: {{token: t}}}}}}\n"
        with pytest.raises(ConfigError, match=r"DSO's own|plugin may have"):
            load_config("dso.yaml", environment=ENVIRONMENT, text=text)
