"""Codes of the agent as errors of the command line: one for all references, and the class scripts rely on."""

from __future__ import annotations

import os
import pwd

import pytest

from dso.errors import (
    AgentProtocolError,
    ConfigError,
    DsoError,
    ProviderFailedError,
    SecretFieldError,
    SecretForbiddenError,
    SecretNotFoundError,
)
from dso.protocol import codes
from dso.protocol.agent import Fault
from dso.protocol.faults import class_of, error_of_references, forbidden_hint

CLASSES: dict[str, type[DsoError]] = {
    "not_found": SecretNotFoundError,
    "unknown_secret": SecretNotFoundError,
    "unknown_field": SecretFieldError,
    "permission_denied": SecretForbiddenError,
    "unauthenticated": SecretForbiddenError,
    "unknown_provider": ConfigError,
    "throttled": ProviderFailedError,
    "unavailable": ProviderFailedError,
    "invalid_config": ProviderFailedError,
    "plugin_crashed": ProviderFailedError,
    "plugin_missing": ProviderFailedError,
    "internal": AgentProtocolError,
    "of_a_later_release": AgentProtocolError,
}


@pytest.mark.parametrize("code", CLASSES)
def test_code_is_an_error_class(code: str) -> None:
    assert class_of(Fault(code, "")) is CLASSES[code]


def test_every_code_of_a_provider_has_a_class_of_its_own_side() -> None:
    for code in codes.PROVIDER_CODES | codes.PLUGIN_CODES:
        assert class_of(Fault(code, "")) is not AgentProtocolError, code


def fault(code: str, reference: str) -> Fault:
    return Fault(code, f"{code} it is", f"hint for {code}", reference)


def test_single_fault_is_one_line_with_its_place() -> None:
    error = error_of_references([fault("not_found", "dso://a")], {"dso://a": "service api, variable A"})
    assert error.message == "dso://a (service api, variable A): not_found it is"
    assert error.hint.startswith("hint for not_found")


def test_all_faults_are_in_one_error_each_with_its_place_and_hints_once() -> None:
    faults = [fault("not_found", "dso://a"), fault("not_found", "dso://b")]
    error = error_of_references(faults, {"dso://a": "service api, variable A", "dso://b": "service db, variable B"})
    assert type(error) is SecretNotFoundError
    assert error.message.startswith("2 references")
    assert "dso://a (service api, variable A)" in error.message
    assert "dso://b (service db, variable B)" in error.message
    assert error.hint.count("hint for not_found") == 1


RANKED = ["not_found", "unknown_field", "permission_denied", "unknown_provider", "volume_unavailable", "unavailable"]


@pytest.mark.parametrize("first", range(len(RANKED)))
def test_of_mixed_faults_the_one_that_another_try_mends_least_decides(first: int) -> None:
    faults = [fault(code, f"dso://{code}") for code in reversed(RANKED[first:])]
    error = error_of_references([*faults, fault("internal", "dso://x")], {})
    assert type(error) is class_of(faults[-1])
    assert all(code in error.message for code in RANKED[first:])


class Whose:
    """Owners of paths (None: this user may not look), and groups, for `forbidden_hint`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owners: dict[str, int | None], groups: tuple[str, ...]) -> None:
        def stat(path: str) -> os.stat_result:
            if path not in owners:
                raise FileNotFoundError(2, path)
            owner = owners[path]
            if owner is None:
                raise PermissionError(13, path)
            return os.stat_result((0, 0, 0, 0, owner, 0, 0, 0, 0, 0))

        def group(name: str) -> None:
            if name not in groups:
                raise KeyError(name)

        monkeypatch.setattr("dso.protocol.faults.os.stat", stat)
        monkeypatch.setattr("dso.protocol.faults.os.getuid", lambda: 1000)
        monkeypatch.setattr("grp.getgrnam", group)


def test_user_outside_the_group_is_told_to_join_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Whose(monkeypatch, {"/run/dso.sock": 0}, ("dso",))
    hint = forbidden_hint("/run/dso.sock")
    assert "`sudo usermod -aG dso $USER`, then log in again" in hint
    assert "groupadd" not in hint


def test_group_that_does_not_exist_is_made_first_and_the_agent_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Whose(monkeypatch, {"/run/dso.sock": 0}, ("docker",))
    hint = forbidden_hint("/run/dso.sock")
    words = ["`sudo groupadd --system dso`", "`sudo usermod -aG dso $USER`", "start the agent again", "log in again"]
    assert sorted(words, key=hint.index) == words


@pytest.mark.parametrize("looked_at", ["/run/user/7/dso.sock", "/run/user/7"])
def test_agent_of_another_user_is_theirs_whatever_the_group(monkeypatch: pytest.MonkeyPatch, looked_at: str) -> None:
    owners: dict[str, int | None] = {"/run/user/7/dso.sock": None, "/run/user/7": None, looked_at: 4_000_000_007}
    Whose(monkeypatch, owners, ("dso",))
    hint = forbidden_hint("/run/user/7/dso.sock")
    assert "belongs to user 4000000007: start your own with `dso-agent --config " in hint
    assert "usermod" not in hint


def test_owner_is_called_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Whose(monkeypatch, {"/s": 1}, ())
    assert f"belongs to user {pwd.getpwuid(1).pw_name}:" in forbidden_hint("/s")


def test_socket_that_went_meanwhile_leaves_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    Whose(monkeypatch, {}, ("dso",))
    assert "usermod -aG dso" in forbidden_hint("/run/dso.sock")
