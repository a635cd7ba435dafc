"""Who asks, and what they may read."""

from __future__ import annotations

import os
import socket

import pytest

from dso.agent.access import Access, Accounts, Caller, Peer, peer_of
from dso.config.model import AccessRule


def caller(user: str = "alice", uid: int = 1000, groups: tuple[str, ...] = (), *, trusted: bool = False) -> Caller:
    return Caller(1, uid, user, frozenset({uid}), frozenset(groups), trusted)


def test_the_kernel_says_who_is_at_the_other_end():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


def test_a_peer_with_many_groups_has_them_all():
    ours, theirs = socket.socketpair()
    many = frozenset(range(70_000, 70_300))
    child = os.fork()
    if not child:  # pragma: no cover  # another process
        os.setgroups(list(many))
        with socket.socket(socket.AF_UNIX) as connecting:
            ours.close()
            connecting.connect(f"\0dso-test-{os.getppid()}")
            theirs.recv(1)
        os._exit(0)
    with ours, theirs, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0dso-test-{os.getpid()}")
        listening.listen()
        listening.settimeout(30)
        connection, _ = listening.accept()
        with connection:
            peer = peer_of(connection)
        ours.send(b"x")
    os.waitpid(child, 0)
    assert many <= peer.groups


def test_without_rules_everybody_may_read_everything():
    access = Access(None, own_uid=500)
    assert not access.is_restricted
    assert access.may_read(caller(), "prod/db")
    assert access.may_see_log(caller())


def test_with_rules_nobody_may_read_but_whom_one_grants_it():
    access = Access(
        [AccessRule(("alice",), (), ("prod/*",)), AccessRule((), ("deploy",), ("staging/?", "x"))], own_uid=500
    )
    assert access.may_read(caller("alice"), "prod/db")
    assert access.may_read(caller("alice"), "prod/deep/er")
    assert not access.may_read(caller("alice"), "staging/1")
    assert not access.may_read(caller("alice"), "PROD/db")
    assert access.may_read(caller("bob", groups=("deploy",)), "staging/1")
    assert not access.may_read(caller("bob", groups=("deploy",)), "staging/12")
    assert not access.may_read(caller("bob"), "x")
    assert not access.may_see_log(caller("alice"))


def test_an_empty_section_lets_nobody_read_but_root_and_the_agents_user():
    access = Access([], own_uid=500)
    assert not access.may_read(caller(), "x")
    assert access.may_read(caller(trusted=True), "x")
    assert access.is_trusted(0)
    assert access.is_trusted(500)
    assert not access.is_trusted(501)


def test_users_and_groups_without_a_name_are_known_by_number():
    access = Access([AccessRule(("1234",), (), ("a",)), AccessRule((), ("77",), ("b",))], own_uid=0)
    assert access.may_read(Caller(1, 1234, "", frozenset(), frozenset(), trusted=False), "a")
    assert access.may_read(Caller(1, 9, "", frozenset({77}), frozenset(), trusted=False), "b")
    assert not access.may_read(Caller(1, 9, "", frozenset({78}), frozenset(), trusted=False), "b")


def test_a_user_without_a_name_is_not_every_user_without_a_name():
    assert not Access([AccessRule(("",), ("",), ("*",))], own_uid=0).may_read(caller("", 9), "a")


@pytest.fixture
def database(monkeypatch) -> list[int]:
    asked: list[int] = []

    class Account:
        pw_name, pw_gid = "alice", 1000

    def getpwuid(uid):
        asked.append(uid)
        if uid != 1000:
            raise KeyError(uid)
        return Account

    class Group:
        def __init__(self, gid):
            self.gr_name = {1000: "alice", 33: "www"}[gid]

    monkeypatch.setattr("dso.agent.access.pwd.getpwuid", getpwuid)
    monkeypatch.setattr("dso.agent.access.grp.getgrgid", Group)
    monkeypatch.setattr("os.getgrouplist", lambda _name, gid: [gid, 33])
    return asked


def test_groups_are_those_of_the_process_and_those_of_the_database(database):
    found = Accounts().look_up(Peer(1, 1000, 1000, frozenset({1000, 44})))
    assert found == ("alice", frozenset({1000, 44, 33}), frozenset({"alice", "www"}))


def test_somebody_the_database_does_not_know_has_the_groups_of_the_process(database):
    assert Accounts().look_up(Peer(1, 9, 9, frozenset({33}))) == ("", frozenset({33}), frozenset({"www"}))


def test_the_database_is_believed_for_a_minute(database):
    now = [0.0]
    accounts = Accounts(lambda: now[0])
    peer = Peer(1, 1000, 1000, frozenset({1000}))
    assert not accounts.knows(1000)
    accounts.look_up(peer)
    now[0] = 59
    assert accounts.knows(1000)
    accounts.look_up(peer)
    assert database == [1000]
    now[0] = 61
    assert not accounts.knows(1000)
    accounts.look_up(peer)
    assert database == [1000, 1000]
