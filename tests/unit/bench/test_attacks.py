"""What the agent under attack is held against."""

from __future__ import annotations

from tests.bench.attacks.part import Attacked, attack_outcomes
from tests.support.memory import MIB


def test_an_attack_may_slow_others_down_by_less_than_five_times_and_take_200_mib() -> None:
    well = Attacked("silence", 1.0, 4.9, 199 * MIB)
    badly = Attacked("noise", 1.0, 5.0, 201 * MIB)
    assert [one.met for one in attack_outcomes([well])] == [True, True]
    assert [one.met for one in attack_outcomes([well, badly])] == [True, False, False]
    assert "noise" in attack_outcomes([well, badly])[-1].what
    assert not attack_outcomes([])
