"""Settings of a provider, and what is said of faulty ones."""

from __future__ import annotations

from typing import Any

import pytest

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import ProviderError
from dso.providers.options import Options


def options(**settings: Any) -> Options:
    return Options("vault-prod", settings)


def refused(call: Any) -> str:
    with pytest.raises(ProviderError) as failure:
        call()
    assert failure.value.code == INVALID_CONFIG
    assert failure.value.message.startswith("provider vault-prod: `")
    assert "canary" not in failure.value.message
    return failure.value.message


def test_what_is_left_out_has_its_default() -> None:
    empty = options()
    assert empty.text("a") is None
    assert empty.choice("b", ["x", "y"], "y") == "y"
    assert (empty.flag("c", default=True), empty.whole("d", 2)) == (True, 2)
    assert empty.section("e").text("f") is None
    empty.finish()


def test_what_is_there_is_taken() -> None:
    full = options(a="text", b="x", c=False, d=3, e={"f": "inner"}, g="4")
    assert (full.text("a"), full.required("a"), full.choice("b", ["x"], "y")) == ("text", "text", "x")
    assert (full.flag("c", default=True), full.whole("d", 2), full.whole("g", 2)) == (False, 3, 4)
    inner = full.section("e")
    assert inner.text("f") == "inner"
    inner.finish()
    full.finish()


def test_faults_name_the_key_and_never_what_was_given() -> None:
    faulty = options(a=5, b="canary", c="canary", d="canary", e="canary", f={"g": ["canary"]}, h="", i=True)
    assert "`a` is no text" in refused(lambda: faulty.text("a"))
    assert "`b` is none of x, y" in refused(lambda: faulty.choice("b", ["x", "y"], "x"))
    assert "`c` is neither true nor false" in refused(lambda: faulty.flag("c", default=True))
    assert "`d` is no whole number" in refused(lambda: faulty.whole("d", 1))
    assert "`i` is no whole number" in refused(lambda: faulty.whole("i", 1))
    assert "`e` is no mapping" in refused(lambda: faulty.section("e"))
    assert "`f.g` is no text" in refused(lambda: faulty.section("f").text("g"))
    assert "`h` is no text, or empty" in refused(lambda: faulty.text("h"))
    assert "`z` is missing" in refused(lambda: faulty.required("z"))


def test_a_setting_nobody_knows_is_refused_with_the_nearest() -> None:
    faulty = options(adress="canary", colour="canary")
    faulty.text("address")
    assert "did you mean `address`?" in refused(faulty.finish)
    odd = options(colour="canary")
    odd.text("address")
    assert "did you mean" not in refused(odd.finish)
