"""What `dso-agent --check` prints is read: each provider, and what is wrong with it."""

from __future__ import annotations

import pytest

from dso.host.provider_check import read_check
from dso.protocol.codes import PLUGIN_MISSING, PLUGIN_UNTRUSTED, PROVIDER_CODES
from dso.system.proc import Finished

HEAD = "/etc/dso/dso.yaml: 3 providers, 0 secrets\n"


def test_each_provider_with_its_fault() -> None:
    said = (
        HEAD
        + "v (vault): ok\n"
        + "a (aws): the key (id AKIA) is refused: see [1] [unauthenticated]\n"
        + "z (azure): two\nlines [unavailable]\n"
        + "w (vault): ok\n"
    )
    found, fault = read_check(Finished(46, said.encode(), b""))
    assert fault == ""
    assert [(one.name, one.type, one.code, one.message) for one in found] == [
        ("v", "vault", "", ""),
        ("a", "aws", "unauthenticated", "the key (id AKIA) is refused: see [1]"),
        ("z", "azure", "unavailable", "two\nlines"),
        ("w", "vault", "", ""),
    ]


def test_a_faulty_configuration_is_told() -> None:
    found, fault = read_check(Finished(44, b"", b"Error: /etc/dso/dso.yaml is empty\n  hint: fill it\n"))
    assert found == []
    assert fault == "/etc/dso/dso.yaml is empty\n  hint: fill it"


@pytest.mark.parametrize("finished", [Finished(137, b"", b""), Finished(70, HEAD.encode(), b"")])
def test_an_agent_that_says_nothing_is_no_healthy_one(finished: Finished) -> None:
    found, fault = read_check(finished)
    assert found == []
    assert f"ended with {finished.code}" in fault


@pytest.mark.parametrize("code", sorted({*PROVIDER_CODES, PLUGIN_MISSING, PLUGIN_UNTRUSTED, "anything_new"}))
def test_every_code_has_a_remedy(code: str) -> None:
    (one,), _ = read_check(Finished(46, f"{HEAD}v (vault): no [{code}]\n".encode(), b""))
    assert one.remedy
