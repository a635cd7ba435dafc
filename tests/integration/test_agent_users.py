"""Who may use the agent, and what each may read of it: real users, by what the kernel says of them."""

from __future__ import annotations

import json
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.canary import Canary
from tests.support.users import DSO_GROUP, AgentWithUsers, User, as_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agent import Agent

DEPLOY_GROUP = 40101
ALICE = User("alice", 40001, groups=(DSO_GROUP,))
BOB = User("bob", 40002, groups=(DSO_GROUP, DEPLOY_GROUP))
CAROL = User("carol", 40003, groups=(DSO_GROUP,))
NEW = User("new", 40004, listed=(DSO_GROUP,))  # added to the group since logging in
STRANGER = User("stranger", 40005, groups=(DEPLOY_GROUP,))
ROOT = User("root", 0)
USERS = [ALICE, BOB, CAROL, NEW, STRANGER]
GROUPS = {"dso": DSO_GROUP, "deploy": DEPLOY_GROUP}

PROD, STAGING, OTHER = Canary.new(), Canary.new(), Canary.new()
SECRETS = {"prod/db": {"text": PROD.text}, "staging/db": {"text": STAGING.text}, "other": {"text": OTHER.text}}

RULES = """
secrets:
  - {name: prod/db, provider: fake, path: prod/db}
  - {name: staging/db, provider: fake, path: staging/db}
access:
  - {user: alice, secrets: ["prod/*"]}
  - {group: deploy, secrets: ["staging/*", "fake/other"]}
"""


def made(rules: str) -> AgentWithUsers:
    agent = AgentWithUsers(users=USERS, groups=GROUPS)
    agent.write_secrets(SECRETS)
    agent.use_fake(rules)
    agent.start()
    return agent


@pytest.fixture(scope="module")
def open_agent() -> Iterator[Agent]:
    """Without `access:`."""
    with made("") as agent:
        yield agent


@pytest.fixture(scope="module")
def strict_agent() -> Iterator[Agent]:
    with made(RULES) as agent:
        yield agent


def resolved(agent: Agent, user: User, *references: str, secrets: Any = ()) -> dict[str, str]:
    """Reference -> value, or the code of the error."""
    answer = as_user(user, lambda: agent.resolve(*references, secrets=secrets))
    values = {one["reference"]: one["value"] for one in answer["resolved"]}
    return values | {fault["reference"]: fault["code"] for fault in answer["errors"]}


# Who may connect


def test_the_socket_belongs_to_root_and_the_group(open_agent: Agent) -> None:
    about = os.stat(open_agent.socket)
    assert (about.st_uid, about.st_gid) == (0, DSO_GROUP)
    assert stat.S_IMODE(about.st_mode) == 0o660


@pytest.mark.parametrize("user", [ROOT, ALICE], ids=lambda user: user.name)
def test_root_and_members_of_the_group_read_everything_without_rules(open_agent: Agent, user: User) -> None:
    assert resolved(open_agent, user, "dso://fake/prod/db", "dso://fake/other") == {
        "dso://fake/prod/db": PROD.text,
        "dso://fake/other": OTHER.text,
    }


def test_others_are_refused_by_the_socket_itself(open_agent: Agent) -> None:
    with pytest.raises(PermissionError):
        as_user(STRANGER, lambda: open_agent.request("GET", "/healthz").status)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/resolve"), ("GET", "/v1/status"), ("GET", "/v1/nothing")])
def test_others_are_refused_and_logged_where_the_socket_lets_them_in(open_agent: Agent, method: str, path: str) -> None:
    """Somebody has loosened its permissions, or handed on a connection: SO_PEERCRED decides."""
    os.chmod(open_agent.socket, 0o666)
    try:
        since = len(open_agent.log)
        status, code = as_user(STRANGER, lambda: _refusal(open_agent, method, path))
        assert (status, code) == (403, "permission_denied")
        assert f"uid={STRANGER.uid}" in open_agent.log[since:]
        assert "pid=" in open_agent.log[since:]
    finally:
        os.chmod(open_agent.socket, 0o660)


def _refusal(agent: Agent, method: str, path: str) -> tuple[int, str]:
    answer = agent.request(method, path, {"values": ["dso://fake/other"]} if method == "POST" else None)
    return answer.status, answer.code


def test_a_member_since_a_moment_ago_need_not_log_in_again(open_agent: Agent) -> None:
    os.chmod(open_agent.socket, 0o666)  # the kernel knows the process's own groups only
    try:
        assert resolved(open_agent, NEW, "dso://fake/other") == {"dso://fake/other": OTHER.text}
    finally:
        os.chmod(open_agent.socket, 0o660)


# Who may read what


@pytest.mark.parametrize(
    ("user", "readable"),
    [
        (ROOT, {"prod/db", "staging/db", "fake/other"}),
        (ALICE, {"prod/db"}),
        (BOB, {"staging/db", "fake/other"}),
        (CAROL, set()),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_rules_give_each_what_they_say_and_nothing_else(strict_agent: Agent, user: User, readable: set[str]) -> None:
    everything = {"prod/db": PROD.text, "staging/db": STAGING.text, "fake/other": OTHER.text}
    since = len(strict_agent.log)
    found = resolved(strict_agent, user, *(f"dso://{name}" for name in everything))
    assert found == {
        f"dso://{name}": value if name in readable else "permission_denied" for name, value in everything.items()
    }
    for name in everything.keys() - readable:
        assert any(name in line and f"uid={user.uid}" in line for line in strict_agent.log[since:].splitlines()), (
            f"the refusal of {name} is not logged"
        )


def test_a_secret_is_no_more_readable_by_its_path_than_by_its_name(strict_agent: Agent) -> None:
    assert resolved(strict_agent, BOB, "dso://fake/prod/db") == {"dso://fake/prod/db": "permission_denied"}
    assert resolved(strict_agent, CAROL, "dso://other") == {"dso://other": "permission_denied"}


def test_a_name_the_caller_chose_opens_nothing(strict_agent: Agent) -> None:
    mine = [{"name": "prod/mine", "provider": "fake", "path": "other"}]
    assert resolved(strict_agent, ALICE, "dso://prod/mine", secrets=mine) == {"dso://prod/mine": "permission_denied"}
    assert resolved(strict_agent, BOB, "dso://prod/mine", secrets=mine) == {"dso://prod/mine": OTHER.text}
    taken = [{"name": "prod/db", "provider": "fake", "path": "staging/db"}]
    assert resolved(strict_agent, ALICE, "dso://prod/db", secrets=taken) == {"dso://prod/db": "permission_denied"}


def test_a_check_is_as_good_as_reading(strict_agent: Agent) -> None:
    """Its fingerprint tells when a secret changes, so that it is for those who may read it."""
    answer = as_user(CAROL, lambda: strict_agent.resolve(checks=["dso://prod/db"]))
    assert [fault["code"] for fault in answer["errors"]] == ["permission_denied"]


def test_what_does_not_exist_and_what_is_forbidden_look_alike(strict_agent: Agent) -> None:
    """Otherwise anybody could list what there is."""
    found = resolved(strict_agent, ALICE, "dso://fake/other", "dso://fake/missing")
    assert set(found.values()) == {"permission_denied"}


def test_the_list_of_secrets_has_what_one_may_read(strict_agent: Agent) -> None:
    for user, there, missing in ((ALICE, b"prod/db", b"staging/db"), (BOB, b"staging/db", b"prod/db")):
        listed = json.dumps(as_user(user, partial(strict_agent.get, "/v1/secrets"))).encode()
        assert there in listed
        assert missing not in listed
        assert not any(canary.find(listed) for canary in (PROD, STAGING, OTHER))


def test_a_volume_cannot_hold_what_its_owner_may_not_read(strict_agent: Agent) -> None:
    def put() -> tuple[int, str]:
        files = [{"name": "db", "template": "{{dso://prod/db}}", "uid": 0, "gid": 0, "mode": 0o444}]
        answer = strict_agent.request("PUT", "/v1/volumes", {"volumes": {"p_dso_web": {"files": files, "secrets": []}}})
        return answer.status, answer.code if answer.status >= 400 else ""

    assert as_user(BOB, put) == [403, "permission_denied"]
    assert as_user(ALICE, put)[0] == 200


def volume_of(reference: str) -> dict[str, Any]:
    """A volume with one file."""
    return {
        "files": [{"name": "f", "template": "{{" + reference + "}}", "uid": 0, "gid": 0, "mode": 0o444}],
        "secrets": [],
    }


def put(agent: Agent, user: User, *names: str, reference: str) -> list[Any]:
    """What a user is told who defines volumes: the status, the error's code and message."""

    def ask() -> tuple[int, str, str]:
        body = {"volumes": {name: volume_of(reference) for name in names}}
        answer = agent.request("PUT", "/v1/volumes", body)
        fault = answer.json().get("error", {})
        return answer.status, fault.get("code", ""), fault.get("message", "")

    return list(as_user(user, ask))


def engine_makes(agent: Agent, name: str, reference: str) -> None:
    """As the Engine does when somebody who may use it runs `docker dso up`."""
    assert not agent.engine("Create", {"Name": name, "Opts": {"spec": json.dumps(volume_of(reference))}})["Err"]


def content_of(agent: Agent, name: str) -> str:
    return str(agent.engine("Get", {"Name": name})["Volume"]["Status"]["files"]["f"])


def test_a_stranger_who_defines_a_volume_first_is_in_nobodys_way(open_agent: Agent) -> None:
    """Nor one who defines it again, after its owner and before the Engine makes it."""
    for user, reference in ((BOB, "dso://fake/other"), (ALICE, "dso://fake/prod/db"), (BOB, "dso://fake/other")):
        assert put(open_agent, user, "squatted_dso_api", reference=reference)[0] == 200
    assert "no such volume" in open_agent.engine("Get", {"Name": "squatted_dso_api"})["Err"]
    engine_makes(open_agent, "squatted_dso_api", "dso://fake/prod/db")
    assert put(open_agent, BOB, "squatted_dso_api", reference="dso://fake/other")[:2] == [403, "permission_denied"]
    assert content_of(open_agent, "squatted_dso_api") == "{{dso://fake/prod/db}}"


def test_a_volume_the_engine_made_is_changed_by_its_owner_and_root_only(open_agent: Agent) -> None:
    name = "owned_dso_web"
    assert put(open_agent, ALICE, name, reference="dso://fake/prod/db")[0] == 200
    engine_makes(open_agent, name, "dso://fake/prod/db")
    status, code, message = put(open_agent, BOB, name, reference="dso://fake/other")
    assert (status, code) == (403, "permission_denied")
    assert f"the volume {name} has been defined by user {ALICE.uid}" in message
    assert put(open_agent, BOB, name, reference="dso://fake/prod/db")[0] == 200, "which changes nothing"
    assert content_of(open_agent, name) == "{{dso://fake/prod/db}}"
    for user, reference in (
        (ALICE, "dso://fake/staging/db"),
        (ROOT, "dso://fake/other"),
        (ALICE, "dso://fake/prod/db"),
    ):
        assert put(open_agent, user, name, reference=reference)[0] == 200
        assert content_of(open_agent, name) == "{{" + reference + "}}"
    open_agent.engine("Remove", {"Name": name})
    assert put(open_agent, BOB, name, reference="dso://fake/other")[0] == 200


def test_a_volume_can_be_changed_only_by_who_may_read_what_it_holds(strict_agent: Agent) -> None:
    name = "shared_dso_web"
    assert put(strict_agent, ALICE, name, reference="dso://prod/db")[0] == 200
    engine_makes(strict_agent, name, "dso://prod/db")
    assert put(strict_agent, BOB, name, reference="dso://staging/db")[0] == 403
    assert put(strict_agent, ALICE, name, reference="dso://prod/db")[0] == 200
    assert put(strict_agent, ROOT, name, reference="dso://staging/db")[0] == 200


def test_one_member_cannot_fill_the_table_of_volumes(open_agent: Agent) -> None:
    """10,000 definitions by one: it is told to wait, and the others, root and the Engine have their room."""
    refused = []
    for first in range(0, 10_000, 500):
        answer = put(
            open_agent, CAROL, *(f"junk{number}" for number in range(first, first + 500)), reference="dso://fake/other"
        )
        if answer[0] != 200:
            refused.append(answer)
    assert {(status, code) for status, code, _ in refused} == {(429, "busy")}
    assert "and may have 1000" in refused[0][2]
    assert len(refused) == 18
    assert put(open_agent, ALICE, "room_dso_api", reference="dso://fake/prod/db")[0] == 200
    assert put(open_agent, ROOT, *(f"root{number}" for number in range(1500)), reference="dso://fake/other")[0] == 200
    engine_makes(open_agent, "room_dso_api", "dso://fake/prod/db")
    listed = [one["Name"] for one in open_agent.engine("List", {})["Volumes"]]
    assert not [name for name in listed if name.startswith(("junk", "root"))], "which the Engine would have to list"


def test_no_value_is_in_the_log(strict_agent: Agent, open_agent: Agent) -> None:
    for agent in (strict_agent, open_agent):
        assert not any(canary.find(agent.log.encode()) for canary in (PROD, STAGING, OTHER))
