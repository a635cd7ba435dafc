"""Whom a plugin runs as, and that nothing makes it root."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

import pytest

from dso.agent.isolation import accounts
from dso.agent.isolation.accounts import Account, plugin_account
from dso.agent.isolation.quarters import Quarters
from dso.config.provider_schema import TYPES
from dso.paths import PLUGIN_USERS
from dso.protocol.codes import PLUGIN_USER
from dso.protocol.provider import ProviderError
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALL = 1 << 5 | 1 << 6 | 1 << 7


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


class Machine:
    """A user database of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.users: dict[str, tuple[int, int]] = {}
        self.groups: dict[str, Sequence[int]] = {}
        self.names: Mapping[int, str] = {}
        self.members: Mapping[int, list[str]] = {}
        self.capabilities = ALL
        monkeypatch.setattr(pwd, "getpwnam", self._user)
        monkeypatch.setattr(grp, "getgrgid", self._group)
        monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, *self.groups.get(name, ())])
        monkeypatch.setattr(accounts, "effective_capabilities", lambda: self.capabilities)

    def _user(self, name: str) -> pwd.struct_passwd:
        uid, gid = self.users[name]
        return pwd.struct_passwd((name, "x", uid, gid, "", "/nonexistent", "/usr/sbin/nologin"))

    def _group(self, number: int) -> grp.struct_group:
        return grp.struct_group((self.names[number], "x", number, self.members.get(number, [])))


def refusal(provider_type: str) -> str:
    with pytest.raises(ProviderError) as raised:
        plugin_account(provider_type)
    assert raised.value.code == PLUGIN_USER
    return raised.value.message


@pytest.mark.parametrize("provider_type", list(TYPES))
def test_each_type_has_a_user_of_its_own_and_no_other_will_do(machine: Machine, provider_type: str) -> None:
    machine.users["dso-plugin"] = (501, 501)
    assert f"there is no user dso-{provider_type}" in refusal(provider_type)
    assert "useradd --system" in refusal(provider_type)
    machine.users[f"dso-{provider_type}"] = (502, 503)
    assert plugin_account(provider_type) == Account(f"dso-{provider_type}", 502, 503)


def test_another_type_has_its_own_user_or_the_common_one_and_is_never_root(machine: Machine) -> None:
    assert "there is no user dso-plugin" in refusal("acme")
    machine.users["dso-plugin"] = (501, 501)
    assert plugin_account("acme").name == "dso-plugin"
    machine.users["dso-acme"] = (502, 502)
    assert plugin_account("acme").name == "dso-acme"


@pytest.mark.parametrize("numbers", [(0, 0), (0, 501), (501, 0)])
def test_a_user_that_is_root_is_refused(machine: Machine, numbers: tuple[int, int]) -> None:
    machine.users["dso-vault"] = numbers
    assert "root" in refusal("vault")


@pytest.mark.parametrize("group", ["root", "dso", "docker"])
def test_a_user_in_a_group_that_may_use_the_agent_or_docker_is_refused(machine: Machine, group: str) -> None:
    machine.users["dso-vault"] = (501, 501)
    machine.groups["dso-vault"] = [77]
    machine.names = {501: "dso-vault", 77: group}
    assert f"gpasswd -d dso-vault {group}" in refusal("vault")


def test_a_group_that_others_have_too_is_refused_since_it_reads_the_copies(machine: Machine) -> None:
    machine.users["dso-vault"] = (501, 100)
    machine.names = {100: "users"}
    assert "groupadd --system dso-vault; usermod -g dso-vault dso-vault" in refusal("vault")
    machine.users["dso-vault"] = (501, 501)
    machine.names = {501: "dso-vault"}
    machine.members = {501: ["dso-vault", "alice"]}
    assert "gpasswd -d alice dso-vault" in refusal("vault")


def test_other_groups_that_the_administrator_gave_it_are_its_own(machine: Machine) -> None:
    machine.users["dso-vault"] = (501, 501)
    machine.groups["dso-vault"] = [77]
    machine.names = {501: "dso-vault", 77: "himds"}
    assert plugin_account("vault").groups == (77,)


@pytest.mark.parametrize(("number", "name"), [(5, "CAP_KILL"), (6, "CAP_SETGID"), (7, "CAP_SETUID")])
def test_an_agent_that_cannot_become_the_user_starts_nothing_and_says_what_it_lacks(
    machine: Machine, number: int, name: str
) -> None:
    machine.users["dso-vault"] = (501, 501)
    machine.capabilities = ALL & ~(1 << number)
    assert f"lacks {name} " in refusal("vault")
    assert "CapabilityBoundingSet=" in refusal("vault")


def test_only_roots_agent_separates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not Quarters.of_this_process().are_apart
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Quarters.of_this_process().are_apart


def test_the_users_are_those_that_the_installer_lists() -> None:
    with open(f"{ROOT}/installer/sysusers.d/dso.conf", encoding="utf-8") as file:
        listed = {line.split()[1]: int(line.split()[2]) for line in file if line.startswith("u ")}
    assert listed == PLUGIN_USERS
    with open(f"{ROOT}/installer/uninstall.sh", encoding="utf-8") as file:
        assert f"for user in {' '.join(listed)}; do" in file.read()
