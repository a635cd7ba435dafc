"""The gate between a project and the vault: what it asks, what it records, and what it says when it refuses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.cli.grants.gate import ProjectGate
from dso.compose.files import ProjectFiles
from dso.errors import NotGrantedError, UsageError
from dso.grants.store import Grants, grant
from dso.secret import SecretRef
from dso.vault.resolver import Wish

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's directory, beside a HOME without grants."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    directory = tmp_path / "shop"
    directory.mkdir(mode=0o755)
    monkeypatch.chdir(tmp_path)
    return directory


class User:
    """Somebody at the terminal who gives this answer to whatever is asked; None: nobody is there."""

    def __init__(self, answer: bool | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, question: str) -> bool | None:
        self.asked.append(question)
        return self.answer


def wish(text: str, name: str | None = None, *, tells: bool = False, place: str = "service api, variable K") -> Wish:
    reference = SecretRef.parse(text)
    return Wish(reference, place, name or reference.path, tells)


def gate_of(*directories: Path, user: User | None = None, allow: str = "", remote: bool = False) -> ProjectGate:
    files = ProjectFiles((), tuple(map(str, directories)), remote)
    return ProjectGate("shop", files, environment={"DSO_ALLOW": allow}, ask=user or User(None))


BANK, STRIPE = wish("dso://bank/api_key"), wish("dso://stripe", "global/stripe", tells=True)


def test_yes_is_recorded_as_a_namespace_and_as_a_name(shop: Path) -> None:
    user = User(True)
    gate = gate_of(shop, user=user)
    gate.admit([BANK, STRIPE])
    assert gate.allows("bank/api_key")
    (question,) = user.asked
    assert f"the project shop in {shop}" in question
    assert "bank/api_key   service api, variable K" in question
    assert question.endswith("\nGrant it all of namespace bank and global/stripe, now and from now on?")
    found = Grants.load().of(str(shop))
    assert (found.namespaces, found.secrets) == (("bank",), ("global/stripe",))


@pytest.mark.parametrize("answer", [False, None])
def test_without_a_yes_nothing_is_recorded(shop: Path, answer: bool | None) -> None:
    gate = gate_of(shop, user=User(answer))
    with pytest.raises(NotGrantedError):
        gate.admit([BANK])
    assert not gate.allows("bank/api_key")
    assert Grants.load().list() == []


def test_the_refusal_has_the_command_and_the_variable(shop: Path) -> None:
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop).admit([BANK, wish("dsofile://global/x")])
    assert "\n  dso://bank/api_key (service api, variable K)" in caught.value.message
    assert caught.value.hint.splitlines() == [
        f"if you trust it: docker dso allow --directory {shop} bank global/x",
        "or, for one command, as in CI: DSO_ALLOW=bank,global/x",
    ]


def test_the_refusal_does_not_say_which_of_two_names_exists(shop: Path) -> None:
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop).admit([BANK, STRIPE])
    assert "global/stripe" not in caught.value.message + caught.value.hint
    assert caught.value.hint.endswith(f"docker dso allow --directory {shop}")


def test_a_secret_of_its_own_that_was_forgotten_is_to_be_stored_and_not_granted(shop: Path) -> None:
    forgotten = wish("dso://key", "global/key")._replace(own="shop/key", near=": did you mean shop/keys?")
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop).admit([forgotten])
    assert "dso://key (service api, variable K): the project has no shop/key, did you" in caught.value.message
    assert caught.value.hint.startswith(
        "what is the project's own has to be stored first: docker dso secret set shop/key\n"
    )
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop).admit([forgotten, forgotten._replace(own="shop/other"), BANK])
    assert "docker dso secret set shop/NAME\n" in caught.value.hint
    gate_of(shop, user=(user := User(True))).admit([forgotten])
    assert "store what is the project's own: docker dso secret set shop/key)" in user.asked[0]


def test_in_the_directory_itself_the_command_is_short(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop).admit([BANK])
    assert "docker dso allow bank\n" in caught.value.hint


def test_several_directories_are_all_named_and_all_granted(shop: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir(mode=0o755)
    grant(str(shop), namespaces=["bank"])
    assert not gate_of(shop, evil).allows("bank/api_key")
    with pytest.raises(NotGrantedError, match=f"in {shop}, with files of {evil}, was not granted"):
        gate_of(shop, evil).admit([BANK])
    gate_of(shop, evil, user=User(True)).admit([BANK])
    assert gate_of(shop, evil).allows("bank/api_key")


def test_where_an_env_file_chose_the_files_the_command_is_for_the_directory_that_has_it(
    shop: Path, tmp_path: Path
) -> None:
    """In that of the first file, `allow` would find other files, and nothing that is missing."""
    evil = tmp_path / "evil"
    evil.mkdir(mode=0o755)
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop, evil).admit([STRIPE])
    assert caught.value.hint.endswith("docker dso allow")


def gate_with_foreign(own: Path, foreign: Path, user: User, *, may_tell: bool = False) -> ProjectGate:
    files = ProjectFiles((), (str(own), str(foreign)), foreign=(str(foreign),))
    return ProjectGate("shop", files, environment={}, ask=user, may_tell=may_tell)


def test_no_question_grants_what_an_env_file_brought_in_from_elsewhere(shop: Path, tmp_path: Path) -> None:
    inner = shop / "evil"
    inner.mkdir(mode=0o755)
    user = User(True)
    with pytest.raises(NotGrantedError, match=f"files of {shop}: granted there, it is granted to .* below") as caught:
        gate_with_foreign(inner, shop, user).admit([BANK])
    assert user.asked == []
    assert Grants.load().list() == []
    allow = f"docker dso allow --directory {inner} bank && docker dso allow --directory {shop} bank"
    assert f"if you trust it: {allow}" in caught.value.hint
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    grant(str(shop), namespaces=["bank"])
    gate_with_foreign(other, shop, user).admit([BANK])
    assert len(user.asked) == 1, "where that was granted before, the rest can be asked for"
    assert [each.directory for each in Grants.load().list()] == [str(other), str(shop)]


def test_the_refusal_names_what_the_vault_has_to_the_user_only(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(NotGrantedError) as caught:
        gate_with_foreign(shop, tmp_path, User(True)).admit([STRIPE])
    assert caught.value.hint.endswith("grant it: docker dso allow")
    with pytest.raises(NotGrantedError) as caught:
        gate_with_foreign(shop, tmp_path, User(True), may_tell=True).admit([STRIPE])
    assert f"docker dso allow --directory {shop} global/stripe && docker dso allow global/stripe" in caught.value.hint


def test_the_question_says_what_else_a_grant_reaches(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    gate_of(shop, other, user=(user := User(True))).admit([BANK])
    assert user.asked[0].endswith(
        f"\nGrant it all of namespace bank, and to everything below {other}, now and from now on?"
    )


def test_the_question_says_what_is_not_stored_yet(shop: Path) -> None:
    gate_of(shop, user=(user := User(True))).admit([BANK, STRIPE._replace(is_stored=False)])
    assert "\n  bank/api_key   service api, variable K\n" in user.asked[0]
    assert "\n  global/stripe   service api, variable K   (not in the vault yet)\n" in user.asked[0]


def test_fetched_files_are_asked_about_each_time(shop: Path) -> None:
    grant(str(shop), namespaces=["bank"])
    user = User(True)
    for _ in range(2):
        gate = gate_of(shop, user=user, remote=True)
        assert not gate.allows("bank/api_key")
        gate.admit([BANK])
        assert gate.allows("bank/api_key")
        assert not gate.allows("bank/other")
    assert len(user.asked) == 2
    assert "each time" in user.asked[0]


def test_where_no_directory_is_known_nothing_is_granted() -> None:
    with pytest.raises(NotGrantedError, match=os.getcwd()):
        gate_of().admit([BANK])


def test_nobody_is_asked_where_others_can_put_files(shop: Path) -> None:
    shop.chmod(0o777)
    user = User(True)
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop, user=user).admit([BANK])
    assert user.asked == []
    assert caught.value.hint.splitlines() == [
        f"chmod o-w {shop}",
        "or, for one command, as in CI: DSO_ALLOW=bank",
    ]
    with pytest.raises(NotGrantedError) as caught:
        gate_of(shop, user=user).admit([BANK, STRIPE])
    assert caught.value.hint == f"chmod o-w {shop}", "it does not say which of two names exists"
    assert gate_of(shop, allow="bank").allows("bank/api_key")


def test_a_grant_above_that_does_not_count_is_explained(shop: Path) -> None:
    inner = shop / "drop" / "project"
    inner.mkdir(parents=True)
    (shop / "drop").chmod(0o777)
    grant(str(shop), namespaces=["bank"])
    gate = gate_of(inner)
    assert not gate.allows("bank/api_key")
    with pytest.raises(NotGrantedError, match=f"{shop / 'drop'} can be written to by every user") as caught:
        gate.admit([BANK])
    assert f"chmod o-w {shop / 'drop'}" in caught.value.hint.splitlines()[0]


def test_what_the_environment_allows_needs_no_grant(shop: Path) -> None:
    gate = gate_of(shop, allow=" bank , global/x,shop/one")
    assert [gate.allows(name) for name in ("bank/a", "global/x", "shop/one")] == [True] * 3
    assert [gate.allows(name) for name in ("global/y", "shop/two", "banker/a")] == [False] * 3
    assert gate_of(shop, allow="*").allows("any/thing")
    with pytest.raises(UsageError, match="DSO_ALLOW"):
        gate_of(shop, allow="bank/*")


def test_a_strangers_words_stay_on_their_line(tmp_path: Path) -> None:
    evil = tmp_path / "evil\n  hint: run \x1b[2Jrm"
    evil.mkdir(mode=0o755)
    user = User(True)
    gate_of(evil, user=user).admit(
        [wish("dso://bank/k", place="service api, variable K\nGrant nothing? \u202e" + "x" * 999)]
    )
    (question,) = user.asked
    assert question.isprintable() or set(question) - {"\n"} == {each for each in question if each.isprintable()}
    assert question.count("\n") == 2
    assert len(question) < 800
    with pytest.raises(NotGrantedError) as caught:
        gate_of(evil).admit([wish("dso://other/k", place="a\nb")])
    assert len(caught.value.hint.splitlines()) == 2
