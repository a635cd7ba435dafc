"""How many connections there may be, and how long each may take over what."""

from __future__ import annotations

from dso.agent.fairness.budgets import MEMBER_POOL, STRANGER_POOL, TRUSTED_POOL, Share

OF_TRUSTED = 512  # connections of root and the agent's own user
OF_A_USER, OF_MEMBERS = 128, 768  # of a member of group dso, and of all of them
OF_A_STRANGER, OF_STRANGERS = 4, 32  # of others
IDLE_TIMEOUT = 60.0  # between requests, and before the first
HEAD_TIMEOUT = 10.0  # from a request's first byte to the end of its head
GRACE = 1.0  # for which a client that has just begun is spared when room has to be made
SWEEP_INTERVAL = 1.0


class Limits:
    """What connections may take; tests make them small."""

    def __init__(
        self,
        *,
        connections: int = OF_TRUSTED,
        of_user: int = OF_A_USER,
        of_members: int = OF_MEMBERS,
        idle: float = IDLE_TIMEOUT,
        head: float = HEAD_TIMEOUT,
        grace: float = GRACE,
        sweep: float = SWEEP_INTERVAL,
    ) -> None:
        self.shares = {
            TRUSTED_POOL: Share(connections, connections),
            MEMBER_POOL: Share(of_user, of_members),
            STRANGER_POOL: Share(OF_A_STRANGER, OF_STRANGERS),
        }
        self.idle = idle
        self.head = head
        self.grace = grace
        self.sweep = sweep
