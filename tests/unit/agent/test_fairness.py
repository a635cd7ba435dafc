"""Budgets, rates and turns: what one user may take, and that it leaves the others theirs."""

from __future__ import annotations

import asyncio

import pytest

from dso.agent.fairness.budgets import MEMBER_POOL, TRUSTED_POOL, Budget, BusyError, Hold, Share
from dso.agent.fairness.fetching import PORTION, PORTIONS, Fetching
from dso.agent.fairness.rates import Rate
from dso.agent.fairness.turns import AtOnce, Turns, begin, others_first
from tests.support.loop import in_loop

ALICE, BOB, CAROL, ROOT = 1001, 1002, 1003, 0


def budget() -> Budget:
    return Budget({TRUSTED_POOL: Share(10, 10), MEMBER_POOL: Share(10, 15)})


def hold(of: Budget, user: int, pool: str = MEMBER_POOL) -> Hold:
    return Hold(of, pool, user, lambda *_: False)


def test_a_user_has_a_budget_of_their_own_and_shares_one_with_all() -> None:
    shared = budget()
    alice, bob = hold(shared, ALICE), hold(shared, BOB)
    alice.grow(10)
    with pytest.raises(BusyError) as busy:
        alice.grow(1)
    assert "your requests" in busy.value.message
    assert busy.value.retry_after > 0
    bob.grow(5)
    with pytest.raises(BusyError) as busy:
        bob.grow(1)
    assert "all users" in busy.value.message
    alice.release()
    bob.grow(5)


def test_nobody_takes_the_room_of_root() -> None:
    shared = budget()
    hold(shared, ALICE).grow(10)
    hold(shared, BOB).grow(5)
    root = hold(shared, ROOT, TRUSTED_POOL)
    root.grow(10)
    with pytest.raises(BusyError):
        root.grow(1)


def test_what_is_given_back_leaves_no_account_behind() -> None:
    shared = budget()
    for user in range(1000):
        one = hold(shared, user)
        one.grow(7)
        one.shrink(3)
        one.release()
        one.release()
    assert not shared.used


def test_room_is_made_before_a_request_is_refused() -> None:
    shared = budget()
    unread = hold(shared, ALICE)
    unread.grow(10)
    asked: list[tuple[str, int, str]] = []

    def make_room(*who: object) -> bool:
        asked.append(who)  # type: ignore[arg-type]
        unread.release()
        return True

    Hold(shared, MEMBER_POOL, ALICE, make_room).grow(6)
    Hold(shared, MEMBER_POOL, BOB, make_room).grow(9)
    assert asked == [(MEMBER_POOL, ALICE, "user")]


def test_whoever_spent_their_credit_waits_and_nobody_else_does() -> None:
    now = [0.0]
    rate = Rate("requests", burst=3, per_second=0.5, clock=lambda: now[0])
    for _ in range(3):
        rate.spend(ALICE)
    with pytest.raises(BusyError) as busy:
        rate.spend(ALICE)
    assert busy.value.retry_after == 2
    rate.spend(BOB)
    now[0] = 2.0
    rate.spend(ALICE)


def test_a_large_request_is_served_at_its_time_and_paid_for_later() -> None:
    now = [0.0]
    rate = Rate("secrets", burst=100, per_second=10, clock=lambda: now[0])
    rate.spend(ALICE, 300)
    with pytest.raises(BusyError) as busy:
        rate.spend(ALICE, 1)
    assert busy.value.retry_after == pytest.approx(20.1)
    now[0] = 20.2
    rate.spend(ALICE, 1)


def test_what_one_user_owes_nobody_else_waits_for() -> None:
    rate = Rate("secrets", burst=100, per_second=1, together=2, clock=lambda: 0.0)
    rate.spend(ALICE, 10_000)
    rate.spend(BOB, 1)


def test_users_together_have_a_rate_too_and_those_who_owe_nothing_are_forgotten() -> None:
    now = [0.0]
    rate = Rate("requests", burst=10, per_second=1, together=2, clock=lambda: now[0])
    rate.spend(ALICE, 10)
    rate.spend(BOB, 10)
    with pytest.raises(BusyError):
        rate.spend(CAROL)
    now[0] = 1000.0
    for user in range(5000):
        now[0] += 100.0
        rate.spend(user)
    assert len(rate._accounts) < 1100


@in_loop
async def test_in_each_round_every_user_has_one_turn() -> None:
    turns, order = Turns(), []

    async def work(user: int, slices: int) -> None:
        await begin(turns, user)
        for _ in range(slices):
            order.append(user)
            await others_first()

    hostile = [asyncio.ensure_future(work(ALICE, 50)) for _ in range(100)]
    await asyncio.sleep(0)
    await work(BOB, 20)
    # Between two slices of one there is at most one of the other, but for the moment in which both begin.
    assert order.count(BOB) == 20
    assert order.count(ALICE) <= 22
    for one in hostile:
        one.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)
    await work(ALICE, 3)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not turns._waiting
    assert not turns._is_due, "nothing runs while nobody works"


@in_loop
async def test_a_user_alone_waits_for_nobody() -> None:
    turns = Turns()
    with pytest.raises(StopIteration):  # it is over without having waited
        turns.take(ALICE).send(None)


@in_loop
async def test_of_each_user_so_many_at_once() -> None:
    places, there, most = AtOnce(2), 0, 0

    async def work() -> None:
        nonlocal there, most
        async with places.of(ALICE):
            there += 1
            most = max(most, there)
            await asyncio.sleep(0)
            there -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 2
    assert not places._places


@in_loop
async def test_a_users_fetches_come_in_portions() -> None:
    fetching = Fetching()
    async with fetching.of(ALICE).place():
        assert list(fetching.places._places) == [ALICE]
    assert PORTION * PORTIONS <= 100, "what waits in a plugin's queue before the next user"
