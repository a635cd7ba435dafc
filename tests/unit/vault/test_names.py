"""Names of secrets, and what may have been meant."""

import pytest

from dso.errors import InvalidSecretError, ReferenceSyntaxError, SecretNotFoundError, UsageError
from dso.vault.names import check_name, missing_error, nearest, parse_name, parse_ref, version_number


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("key", "global/key"),
        ("shop/key", "shop/key"),
        ("shop/a/b", "shop/a/b"),
        ("dso://key", "global/key"),
        ("dso://shop/key", "shop/key"),
        ("dsofile://shop/tls.key", "shop/tls.key"),
    ],
)
def test_every_form_of_a_name_means_one_full_name(text, name):
    assert parse_name(text) == name


def test_field_and_version_are_read_where_they_make_sense():
    reference = parse_ref("key#user?version=3")
    assert (reference.path, reference.field, version_number(reference)) == ("global/key", "user", 3)
    for text in ("key#user", "dso://shop/key?version=1"):
        with pytest.raises(UsageError, match="whole secret"):
            parse_name(text)


@pytest.mark.parametrize("version", ["x", "1.0", "latest", "9" * 20])
def test_version_that_is_no_number_does_not_exist(version):
    with pytest.raises(SecretNotFoundError, match="no version"):
        version_number(parse_ref(f"shop/key?version={version}"))


@pytest.mark.parametrize(
    "text", ["", "/", "a//b", "/a", "a/", "a/../b", ".", "a b", "a/b\n", "pä/x", "a:b/c", "x" * 600]
)
def test_malformed_name_states_the_grammar(text):
    with pytest.raises(ReferenceSyntaxError) as refusal:
        parse_name(text)
    assert "dso://[NAMESPACE/]PATH" in refusal.value.hint


@pytest.mark.parametrize("name", ["", "a", "a/", "/a", "a//b", "a/..", "a/b c", "a/b\n", "a/" + "x" * 511])
def test_name_that_the_vault_does_not_take(name):
    with pytest.raises(InvalidSecretError):
        check_name(name)


def test_longest_name_is_taken():
    assert check_name("a/" + "x" * 510)


def test_nearest_is_the_same_key_elsewhere_else_a_similar_name():
    names = ["global/token", "shop/db_password", "shop/redis"]
    assert nearest("shop/token", names) == "global/token"
    assert nearest("shop/db_pasword", names) == "shop/db_password"
    assert nearest("shop/something_else", names) is None
    assert nearest("a/b", []) is None


def test_all_missing_names_are_in_one_error():
    error = missing_error(["shop/tokn", "shop/redis2"], ["shop/token", "x/y"])
    assert "2 secrets do not exist" in error.message
    assert "shop/tokn (did you mean shop/token?)" in error.message
    assert "shop/redis2" in error.message
    assert "secret set" in missing_error(["a/b"], []).hint
