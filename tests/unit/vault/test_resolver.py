"""References to values from a vault: namespaces, versions, and every missing one in one error."""

import pytest

from dso.errors import SecretNotFoundError
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

    def get(self, name, version=None):
        return SecretValue(self.content[name][(version or len(self.content[name])) - 1])


def resolve(vault, *texts, project="shop"):
    requests = {SecretRef.parse(text): f"service s{at}, variable V" for at, text in enumerate(texts)}
    found = LocalResolver(vault, project).resolve(requests)
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
