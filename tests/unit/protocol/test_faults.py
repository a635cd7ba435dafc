"""Codes of the agent as errors of the command line: one for all references, and the class scripts rely on."""

from __future__ import annotations

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
from dso.protocol.faults import class_of, error_of_references

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
