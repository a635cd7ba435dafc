"""Reading a request's body."""

from __future__ import annotations

import asyncio

import pytest

from dso.agent.web.exchange import _read


class Gone:
    """As aiohttp's StreamReader of a connection that its client has dropped (`_wait` in aiohttp/streams.py)."""

    async def readany(self) -> bytes:
        raise RuntimeError("Connection closed.")


def test_a_client_that_has_gone_is_no_defect_of_the_agent() -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(_read(Gone()))  # type: ignore[arg-type]
