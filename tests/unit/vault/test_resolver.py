"""References to values from a vault: namespaces, versions, and every missing one in one error."""

from typing import Any

import pytest

from dso.errors import NotGrantedError, SecretFieldError, SecretNotFoundError
from dso.secret import SecretRef, SecretValue
from dso.vault.resolver import LocalResolver


class FakeVault:
    """What the resolver asks of a vault. A mock of dso.vault.store.Vault, whose own tests use files."""

    def __init__(self, **content):
        self.content = {name.replace("__", "/"): values for name, values in content.items()}

    def has(self, name):
        return name in self.content

    def names(self):
        return sorted(self.content)

    def versions(self, name):
        return list(range(len(self.content[name]), 0, -1))

    mac_key = b"k" * 32

    def get(self, name, version=None):
        return SecretValue(self.content[name][(version or len(self.content[name])) - 1])


class Gate:
    """Allows what `allowed` says, namespaces and names; what it is asked for besides it notes in `asked`.

    A mock of dso.cli.grants.gate.ProjectGate.
    """

    def __init__(self, *allowed, agrees=False):
        self.allowed = set(allowed)
        self.agrees = agrees
        self.asked = []

    def allows(self, name):
        return bool({"*", name, name.partition("/")[0]} & self.allowed)

    def admit(self, wishes):
        self.asked += [(str(wish.reference), wish.name, wish.tells) for wish in wishes]
        if not self.agrees:
            raise NotGrantedError("no")
        self.allowed |= {wish.name for wish in wishes}


def resolve(vault, *texts, project="shop", gate=None):
    requests = {SecretRef.parse(text): f"service s{at}, variable V" for at, text in enumerate(texts)}
    found = LocalResolver(vault, project, gate or Gate("*")).resolve(requests)
    return [found[reference].reveal() for reference in requests]


def test_without_namespace_the_projects_comes_first_then_global():
    both = FakeVault(shop__key=[b"project"], global__key=[b"global"])
    assert resolve(both, "dso://key") == [b"project"]
    assert resolve(both, "dso://key", project="other") == [b"global"]


def test_version_pins_an_older_value():
    vault = FakeVault(a__b=[b"one", b"two"])
    assert resolve(vault, "dso://a/b", "dso://a/b?version=1") == [b"two", b"one"]


def test_all_missing_secrets_and_versions_are_in_one_error_with_the_nearest_name():
    vault = FakeVault(shop__api_key=[b"x"])
    with pytest.raises(SecretNotFoundError) as caught:
        resolve(vault, "dso://shop/api_kye", "dso://shop/api_key?version=7", "dso://shop/api_key?version=x", "dso://z")
    message = caught.value.message
    assert message.startswith("4 secrets are not in the vault")
    assert "service s0, variable V" in message
    assert "did you mean shop/api_key?" in message
    assert message.count("the vault keeps version 1") == 2


def test_fields_are_views_and_files_are_whole():
    document = b'{"user": "ann", "port": 5432}'
    vault = FakeVault(a__db=[document])
    wanted = ["dso://a/db#user", "dso://a/db#port", "dsofile://a/db", "dso://a/db#value"]
    assert resolve(vault, *wanted) == [b"ann", b"5432", document, document]


def test_one_missing_field_names_its_place_and_keeps_the_hint():
    vault = FakeVault(a__db=[b'{"user": "ann", "port": 5432}'])
    with pytest.raises(SecretFieldError) as caught:
        resolve(vault, "dso://a/db#usr")
    assert caught.value.message == "dso://a/db#usr (service s0, variable V): a/db has no field 'usr'"
    assert caught.value.hint == "it has: user, port"


def test_all_missing_fields_are_in_one_error_with_their_places():
    vault = FakeVault(a__db=[b'{"user": "ann", "port": 5432}'], a__plain=[b"hunter2"])
    with pytest.raises(SecretFieldError) as caught:
        resolve(vault, "dso://a/db#usr", "dso://a/db#user", "dso://a/db", "dsofile://a/plain#x")
    first, *rest = caught.value.message.splitlines()
    assert first == "3 references have no value:"
    assert [line.partition(": ")[0].strip() for line in rest] == [
        "dso://a/db#usr (service s0, variable V)",
        "dso://a/db (service s2, variable V)",
        "dsofile://a/plain#x (service s3, variable V)",
    ]
    assert "it has: user, port" in caught.value.hint
    assert "leave out #x" in caught.value.hint
    assert not any(value in caught.value.message + caught.value.hint for value in ("ann", "5432", "hunter2"))


def test_missing_secrets_come_before_missing_fields():
    vault = FakeVault(a__db=[b'{"user": "ann"}'])
    with pytest.raises(SecretNotFoundError, match="a/nope"):
        resolve(vault, "dso://a/db#usr", "dso://a/nope")


def fingerprint(vault, text):
    reference = SecretRef.parse(text)
    return LocalResolver(vault, "shop", Gate("*")).resolve({reference: "p"})[reference].fingerprint


def test_fingerprint_changes_with_the_value_and_only_then():
    before = fingerprint(FakeVault(a__b=[b"one"]), "dso://a/b")
    assert fingerprint(FakeVault(a__b=[b"one"]), "dso://a/b") == before
    assert fingerprint(FakeVault(a__b=[b"two"]), "dso://a/b") != before


def test_equal_values_under_two_names_or_two_keys_are_not_seen_to_be_equal():
    vault = FakeVault(a__b=[b"one"], a__c=[b"one"])
    other = FakeVault(a__b=[b"one"])
    other.mac_key = b"x" * 32
    assert len({fingerprint(vault, "dso://a/b"), fingerprint(vault, "dso://a/c"), fingerprint(other, "dso://a/b")}) == 3


def test_what_a_project_may_not_have_is_not_even_looked_at():
    vault = FakeVault(bank__api_key=[b"b"], shop__key=[b"s"])
    gate = Gate("shop")
    with pytest.raises(NotGrantedError):
        resolve(vault, "dso://shop/key", "dso://bank/api_key", "dso://bank/no", "dsofile://bank/api_key", gate=gate)
    assert gate.asked == [
        ("dso://bank/api_key", "bank/api_key", False),
        ("dso://bank/no", "bank/no", False),
        ("dsofile://bank/api_key", "bank/api_key", False),
    ]


def test_the_name_of_the_project_grants_nothing():
    gate = Gate()
    with pytest.raises(NotGrantedError):
        resolve(FakeVault(bank__api_key=[b"b"]), "dso://api_key", project="bank", gate=gate)
    assert gate.asked == [("dso://api_key", "bank/api_key", True)]


def test_a_name_in_global_is_enough_where_the_project_has_no_such_secret():
    assert resolve(FakeVault(global__key=[b"g"]), "dso://key", gate=Gate("global/key")) == [b"g"]


def test_a_project_secret_that_is_not_granted_is_never_passed_over_for_the_global_one():
    both = FakeVault(bank__key=[b"b"], global__key=[b"g"])
    gate = Gate("global/key", "other")
    with pytest.raises(NotGrantedError):
        resolve(both, "dso://key", project="bank", gate=gate)


def test_whether_an_ungranted_secret_exists_makes_no_difference():
    full = FakeVault(bank__api_key=[b"b"], global__pin=[b"g"])
    told = []
    for vault in (full, FakeVault()):
        gate = Gate()
        with pytest.raises(NotGrantedError):
            resolve(vault, "dso://bank/api_key?version=9", "dso://pin#field", gate=gate)
        told.append(gate.asked)
    assert told[0] == told[1]
    assert gate.asked[1][2], "which of two names it is may only be told on a terminal"


@pytest.mark.parametrize("in_global", [True, False])
def test_a_project_learns_which_of_its_own_secrets_is_missing_and_nothing_of_others(in_global):
    stored = {"shop__keys": [b"s"], "bank__key": [b"b"], **({"global__key": [b"g"]} if in_global else {})}
    vault: Any = FakeVault(**stored)
    (found,) = LocalResolver(vault, "shop", Gate("shop")).wishes({SecretRef.parse("dso://key"): "K"})
    assert (found.name, found.tells, found.own) == ("global/key", False, "shop/key")
    assert found.near == ": did you mean shop/keys?"
    (found,) = LocalResolver(vault, "bank", Gate("shop")).wishes({SecretRef.parse("dso://key"): "K"})
    assert (found.tells, found.own, found.near) == (True, "", "")


def test_the_nearest_names_are_those_that_the_project_may_have():
    vault = FakeVault(bank__api_key=[b"b"], shop__api_token=[b"s"])
    with pytest.raises(SecretNotFoundError) as caught:
        resolve(vault, "dso://shop/api_key", gate=Gate("shop"))
    assert "bank" not in caught.value.message
    with pytest.raises(SecretNotFoundError, match="did you mean bank/api_key"):
        resolve(vault, "dso://shop/api_key", gate=Gate("shop", "bank"))


def test_what_the_user_agrees_to_is_resolved():
    assert resolve(FakeVault(bank__key=[b"b"]), "dso://bank/key", gate=Gate(agrees=True)) == [b"b"]
