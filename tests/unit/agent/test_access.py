"""Who asks, and what they may read."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest

from dso.agent.access import Access, Accounts, Caller, Directory, Known, Peer, peer_of
from dso.config.model import AccessRule
from tests.support.loop import in_loop, until


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
    with ours, theirs, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0dso-test-{os.getpid()}")
        listening.listen()
        listening.settimeout(30)
        child = os.fork()
        if not child:  # pragma: no cover  # another process
            try:
                ours.close()
                os.setgroups(list(many))
                with socket.socket(socket.AF_UNIX) as connecting:
                    connecting.connect(listening.getsockname())
                    theirs.recv(1)
            finally:
                os._exit(0)  # pytest must not go on in the child
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


def test_the_database_is_believed_for_five_seconds(database):
    now = [0.0]
    accounts = Accounts(lambda: now[0])
    peer = Peer(1, 1000, 1000, frozenset({1000}))
    assert accounts.recall(peer) is None
    accounts.look_up(peer)
    now[0] = 4
    assert accounts.recall(peer) == ("alice", frozenset({1000, 33}), frozenset({"alice", "www"}))
    accounts.look_up(peer)
    assert database == [1000]
    now[0] = 6
    assert accounts.recall(peer) is None
    accounts.look_up(peer)
    assert database == [1000, 1000]


def test_a_group_that_was_listed_and_is_not_any_more_does_not_count_though_the_process_has_it(database, monkeypatch):
    now = [0.0]
    accounts = Accounts(lambda: now[0])
    peer = Peer(1, 1000, 1000, frozenset({1000, 33, 44}))
    assert accounts.look_up(peer).groups == {1000, 33, 44}
    monkeypatch.setattr("os.getgrouplist", lambda _name, gid: [gid])
    now[0] = 6
    assert accounts.look_up(peer).groups == {1000, 44}, "44 was never the database's, so it is the process's own affair"
    assert accounts.recall(peer).groups == {1000, 44}
    monkeypatch.setattr("os.getgrouplist", lambda _name, gid: [gid, 33])
    now[0] = 12
    assert accounts.look_up(peer).groups == {1000, 33, 44}


def test_a_peer_is_recalled_only_if_the_names_of_all_its_groups_are_fresh(database):
    now = [0.0]
    accounts = Accounts(lambda: now[0])
    accounts.look_up(Peer(1, 9, 9, frozenset({33})))
    now[0] = 30
    peer = Peer(2, 1000, 1000, frozenset({1000}))
    accounts.look_up(peer)
    assert accounts.recall(peer)
    assert accounts.recall(peer._replace(groups=frozenset({1000, 44}))) is None, "a group that nobody asked for"
    now[0] = 61
    assert accounts.recall(peer) is None, "the name of group 33 is older than its account"
    accounts.look_up(peer)
    assert accounts.recall(peer)


class Slow(Accounts):
    """A user database that answers when it is let; `asked` has each question, with the thread that waits for it."""

    def __init__(self):
        super().__init__()
        self.asked: list[tuple[Peer, threading.Thread]] = []
        self.released = threading.Event()

    def look_up(self, peer):
        self.asked.append((peer, threading.current_thread()))
        assert self.released.wait(30)
        return super().look_up(peer)


@in_loop
async def test_one_question_about_a_user_is_under_way_and_all_who_ask_get_its_answer(database):
    slow = Slow()
    directory = Directory(slow)
    peer = Peer(1, 1000, 1000, frozenset({1000}))
    asking = [asyncio.ensure_future(directory.find(peer._replace(pid=pid))) for pid in range(50)]
    await until(lambda: slow.asked, "the question")
    asking.append(asyncio.ensure_future(directory.find(peer)))
    await asyncio.sleep(0.01)
    assert len(slow.asked) == 1
    asking[0].cancel()  # who asked first goes away; the others do not care
    slow.released.set()
    found = await asyncio.gather(*asking[1:])
    assert set(found) == {Known("alice", frozenset({1000, 33}), frozenset({"alice", "www"}))}
    assert database == [1000]


@in_loop
async def test_who_joined_a_question_still_learns_of_groups_that_it_was_not_about(database, monkeypatch):
    monkeypatch.setattr("dso.agent.access._group_name", "group{}".format)
    slow = Slow()
    directory = Directory(slow)
    peer = Peer(1, 1000, 1000, frozenset({1000}))
    asking = [asyncio.ensure_future(directory.find(each)) for each in (peer, peer._replace(groups=frozenset({44})))]
    await until(lambda: slow.asked, "the question")
    slow.released.set()
    first, second = await asyncio.gather(*asking)
    assert "group44" not in first.group_names
    assert "group44" in second.group_names


@in_loop
async def test_a_database_that_hangs_takes_few_threads_none_of_the_loop_nor_of_its_others(database):
    slow = Slow()
    directory = Directory(slow)
    asking = [asyncio.ensure_future(directory.find(Peer(1, uid, 9, frozenset({33})))) for uid in range(5000, 5100)]
    try:
        await until(lambda: len(slow.asked) == 4, "four questions")
        for _ in range(50):  # the threads of the loop's own, as mounts need them
            assert (
                await asyncio.wait_for(asyncio.to_thread(threading.current_thread), 30)
                not in directory._threads._threads
            )
        assert len(slow.asked) == 4
        assert threading.main_thread() not in {thread for _, thread in slow.asked}
    finally:
        slow.released.set()
    assert {known.group_names for known in await asyncio.gather(*asking)} == {frozenset({"www"})}


@in_loop
async def test_a_question_that_fails_fails_for_who_asked_and_is_asked_again(database, monkeypatch):
    directory = Directory(Accounts())
    peer = Peer(1, 1000, 1000, frozenset({1000}))
    with monkeypatch.context() as patch:
        patch.setattr("dso.agent.access._ask_database", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await directory.find(peer)
    assert (await directory.find(peer)).user == "alice"
