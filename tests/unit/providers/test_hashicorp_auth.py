"""When the token of a HashiCorp Vault is renewed, and when another one is fetched; with a clock of the test's own."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError
from dso.providers.deadline import Deadline
from dso.providers.hashicorp_auth import REFUSED_SECONDS, RETRY_SECONDS, TokenKeeper
from dso.providers.hashicorp_config import HashicorpConfig
from dso.providers.hashicorp_http import Answer
from dso.providers.hashicorp_login import login_for
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGIN, RENEW, LOOKUP = "auth/approle/login", "auth/token/renew-self", "auth/token/lookup-self"
APPROLE = {"method": "approle", "role_id": "r", "secret_id": "s"}
GIVEN = {"method": "token", "token": "given"}


class Clock:
    """Stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeTransport:
    """Answers what a test has put there; without that, 500."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, deque[Answer | ProviderError]] = {}

    def will(self, path: str, *answers: Answer | ProviderError) -> None:
        self.answers.setdefault(path, deque()).extend(answers)

    def request(self, _method: str, path: str, _deadline: Deadline, **_more: Any) -> Answer:
        self.asked.append(path)
        waiting = self.answers.get(path)
        answer = waiting.popleft() if waiting else Answer(500, {}, b'{"errors":[]}')
        if isinstance(answer, ProviderError):
            raise answer
        return answer


def granted(token: str, ttl: float, *, renewable: bool = True) -> Answer:
    auth = {"client_token": token, "lease_duration": ttl, "renewable": renewable}
    return Answer(200, {}, json.dumps({"auth": auth}).encode())


def looked_up(ttl: float, *, renewable: bool) -> Answer:
    return Answer(200, {}, json.dumps({"data": {"ttl": ttl, "renewable": renewable}}).encode())


def refused(status: int = 403) -> Answer:
    return Answer(status, {}, b'{"errors":["permission denied"]}')


class Case:
    """A keeper with everything around it faked; its thread only runs when `advance` wakes it."""

    def __init__(self, auth: dict[str, str]) -> None:
        self.clock = Clock()
        self.transport = FakeTransport()
        config = HashicorpConfig.read("v", {"address": "https://v", "auth": auth})
        transport: Any = self.transport
        login = login_for(config, transport, self.clock)
        self.keeper = TokenKeeper(config, transport, login, 10, clock=self.clock, jitter=lambda: 0.0)

    def token(self) -> str:
        return self.keeper.token(Deadline(10))

    @property
    def due(self) -> float | None:
        """In how many seconds the thread is going to act."""
        due = self.keeper._due
        return None if due is None else due - self.clock.now

    def advance(self, seconds: float) -> None:
        """Put the clock forward and let the thread do what is due."""
        with self.keeper._changed:
            self.clock.now += seconds
            self.keeper._changed.notify_all()

    def until(self, path: str, times: int) -> None:
        wait_until(lambda: self.transport.asked.count(path) >= times, f"{path} asked {times} times")
        wait_until(lambda: self.keeper._renewer is None or self.due is None or self.due > 0, "the thread resting")


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case(APPROLE)
    yield made
    made.keeper.close()


@pytest.fixture
def given() -> Iterator[Case]:
    made = Case(GIVEN)
    yield made
    made.keeper.close()


def test_nothing_is_asked_before_a_token_is_needed(case: Case):
    case.keeper.start()
    assert case.transport.asked == []
    assert case.keeper._renewer is None


def test_renewed_after_two_thirds_of_its_time_and_again(case: Case):
    case.transport.will(LOGIN, granted("one", 3000))
    assert case.token() == "one"
    assert case.due == 2000
    case.transport.will(RENEW, granted("one", 3000), granted("one", 3000))
    case.advance(2000)
    case.until(RENEW, 1)
    wait_until(lambda: case.due == 2000, "the next renewal being due")
    case.advance(2000)
    case.until(RENEW, 2)
    assert case.transport.asked.count(LOGIN) == 1


def test_one_that_never_ends_is_never_renewed(case: Case):
    case.transport.will(LOGIN, granted("one", 0))
    assert case.token() == "one"
    assert case.due is None
    case.clock.now += 1e9
    assert case.token() == "one"


def test_one_that_cannot_be_renewed_is_replaced_before_its_end(case: Case):
    case.transport.will(LOGIN, granted("one", 300, renewable=False), granted("two", 300, renewable=False))
    assert case.token() == "one"
    case.advance(200)
    case.until(LOGIN, 2)
    wait_until(lambda: case.token() == "two", "the new token")
    assert RENEW not in case.transport.asked


def test_renewal_that_gives_little_more_means_another_login(case: Case):
    """The maximum TTL is near: Vault grants what is left of it."""
    case.transport.will(LOGIN, granted("one", 3000), granted("two", 3000))
    case.token()
    case.transport.will(RENEW, granted("one", 500))
    case.advance(2000)
    case.until(LOGIN, 2)
    wait_until(lambda: case.token() == "two", "the new token")


def test_renewal_that_is_refused_means_another_login(case: Case):
    case.transport.will(LOGIN, granted("one", 3000), granted("two", 3000))
    case.token()
    case.transport.will(RENEW, refused())
    case.advance(2000)
    case.until(LOGIN, 2)
    wait_until(lambda: case.token() == "two", "the new token")


@pytest.mark.parametrize("failure", [Answer(500, {}, b"{}"), Answer(429, {}, b"{}"), ProviderError(UNAVAILABLE, "v")])
def test_renewal_that_fails_keeps_the_token_and_is_tried_again(case: Case, failure: Answer | ProviderError):
    case.transport.will(LOGIN, granted("one", 3000))
    case.token()
    case.transport.will(RENEW, failure, granted("one", 3000))
    case.advance(2000)
    case.until(RENEW, 1)
    wait_until(lambda: case.due == RETRY_SECONDS, "another try being due")
    assert case.token() == "one"
    case.advance(RETRY_SECONDS)
    case.until(RENEW, 2)
    wait_until(lambda: case.due == 2000, "the next renewal being due")


def test_retries_come_sooner_where_the_end_is_near(case: Case):
    case.transport.will(LOGIN, granted("one", 30))
    case.token()
    case.advance(20)
    case.until(RENEW, 1)
    wait_until(lambda: case.due == 2.5, "another try after a quarter of what is left")


def test_login_that_is_refused_is_not_repeated_for_ever(case: Case):
    case.transport.will(LOGIN, granted("one", 30_000, renewable=False), refused(400))
    case.token()
    case.advance(20_000)
    case.until(LOGIN, 2)
    wait_until(lambda: case.due == REFUSED_SECONDS, "a long wait")


def test_one_that_ended_is_replaced_without_trying_it(case: Case):
    case.transport.will(LOGIN, granted("one", 60), granted("two", 60))
    case.token()
    case.clock.now += 61
    assert case.token() == "two"


def test_given_token_is_looked_at_and_renewed_before_anybody_reads(given: Case):
    given.transport.will(LOOKUP, looked_up(3000, renewable=True))
    given.keeper.start()
    given.until(LOOKUP, 1)
    wait_until(lambda: given.due == 2000, "the renewal being due")
    given.transport.will(RENEW, granted("given", 3000))
    given.advance(2000)
    given.until(RENEW, 1)
    assert given.token() == "given"


@pytest.mark.parametrize("answer", [looked_up(0, renewable=False), looked_up(500, renewable=False), refused()])
def test_given_token_that_cannot_be_renewed_is_left_alone(given: Case, answer: Answer):
    given.transport.will(LOOKUP, answer)
    given.keeper.start()
    given.until(LOOKUP, 1)
    wait_until(lambda: given.due is None, "nothing being due")
    given.clock.now += 1000
    assert given.token() == "given"  # whether it is good is the server's to say


def test_given_token_that_is_refused_has_no_replacement(given: Case):
    given.transport.will(LOOKUP, refused(), refused())
    given.token()
    given.until(LOOKUP, 1)
    with pytest.raises(ProviderError) as caught:
        given.keeper.replacement("given", Deadline(10))
    assert caught.value.code == UNAUTHENTICATED


def test_token_that_the_server_finds_good_is_not_replaced(case: Case):
    case.transport.will(LOGIN, granted("one", 3000))
    case.transport.will(LOOKUP, looked_up(2000, renewable=True))
    assert case.keeper.replacement(case.token(), Deadline(10)) is None


def test_server_that_cannot_tell_is_no_reason_to_log_in_again(case: Case):
    case.transport.will(LOGIN, granted("one", 3000))
    with pytest.raises(ProviderError) as caught:
        case.keeper.replacement(case.token(), Deadline(10))
    assert caught.value.code == UNAVAILABLE
    assert case.transport.asked.count(LOGIN) == 1


def test_who_waits_for_a_login_gives_up_in_time(case: Case):
    case.keeper._logging_in.acquire()
    try:
        with pytest.raises(ProviderError) as caught:
            case.keeper.token(Deadline(0.05))
    finally:
        case.keeper._logging_in.release()
    assert caught.value.code == UNAVAILABLE
    assert "did not answer within" in caught.value.message


def test_closed_it_rests(case: Case):
    case.transport.will(LOGIN, granted("one", 3000))
    case.token()
    thread = case.keeper._renewer
    assert thread is not None
    case.keeper.close()
    thread.join(10)
    assert not thread.is_alive()
    assert case.transport.asked[-1] == "auth/token/revoke-self"
