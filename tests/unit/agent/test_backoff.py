"""How long to wait before the next try."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dso.agent.backoff import Backoff


def test_delays_double_up_to_the_cap_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(1.0, 10.0, lambda: 0.0)
    assert [backoff.failed() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.succeeded()
    assert backoff.failed() == 1


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 3000), st.none() | st.floats(0, 1e6))
def test_chance_takes_at_most_a_half_and_what_the_other_side_asks_counts(
    chance: float, failures: int, retry_after: float | None
) -> None:
    backoff = Backoff(0.5, 60.0, lambda: chance)
    for _ in range(failures - 1):
        backoff.failed()
    whole = min(60.0, 0.5 * 2 ** min(failures - 1, 30))
    delay = backoff.failed(retry_after)
    assert max(whole / 2, retry_after or 0) <= delay <= max(whole, retry_after or 0)
