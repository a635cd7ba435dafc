"""`docker dso secret`: what goes in comes out, and nothing else does."""

import json
import os
import time
from collections import Counter

import pytest

from dso.errors import (
    FileAccessError,
    InvalidSecretError,
    ReferenceSyntaxError,
    SecretExistsError,
    SecretFieldError,
    SecretNotFoundError,
    UsageError,
    VaultNotFoundError,
)
from dso.vault.store import MAX_SECRET_BYTES

CANARY = b"c4n4ry-5ecret"


@pytest.mark.parametrize(
    "value", [b"x", b"$$ \" ' \\ `", b"two\nlines", b"\0\xff", "päß €".encode(), b" spaces ", b"a\n\nb", b"-n"]
)
def test_piped_value_comes_back_to_the_byte(owner, value):
    owner.ok("secret", "set", "shop/x", stdin=value)
    assert owner.ok("secret", "get", "shop/x").stdout == value


@pytest.mark.parametrize(
    ("given", "stored"),
    [(b"v\n", b"v"), (b"v\r\n", b"v"), (b"v\n\n", b"v\n"), (b"v\r", b"v\r"), (b"\n\n", b"\n"), (b"v", b"v")],
)
def test_one_newline_of_piped_text_is_dropped_unless_raw(owner, given, stored):
    owner.ok("secret", "set", "x", stdin=given)
    assert owner.ok("secret", "get", "x").stdout == stored
    owner.ok("secret", "set", "x", "--raw", stdin=given)
    assert owner.ok("secret", "get", "x").stdout == given


def test_file_is_kept_to_the_byte(owner, tmp_path):
    content = os.urandom(MAX_SECRET_BYTES - 1) + b"\n"
    (tmp_path / "file").write_bytes(content)
    owner.ok("secret", "set", "shop/x", "--from-file", str(tmp_path / "file"))
    assert owner.ok("secret", "get", "shop/x").stdout == content
    owner.ok("secret", "set", "shop/x", "--from-file", "-", stdin=b"text\n")
    assert owner.ok("secret", "get", "shop/x").stdout == b"text\n"


@pytest.mark.parametrize(
    ("stdin", "error"),
    [(b"", InvalidSecretError), (b"\n", InvalidSecretError), (bytes(MAX_SECRET_BYTES + 1), InvalidSecretError)],
    ids=["nothing", "newline", "too large"],
)
def test_value_that_cannot_be_kept_is_refused(owner, stdin, error):
    assert owner.dso("secret", "set", "x", stdin=stdin).code == error.code
    assert owner.dso("secret", "get", "x").code == SecretNotFoundError.code


def test_largest_value_is_taken_with_a_newline_after_it(owner):
    value = b"v" * MAX_SECRET_BYTES
    owner.ok("secret", "set", "x", stdin=value + b"\n")
    assert owner.ok("secret", "get", "x").stdout == value


def test_files_that_will_not_do(owner, tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(bytes(MAX_SECRET_BYTES + 1))
    for name, error in (("missing", FileAccessError), ("empty", InvalidSecretError), ("large", InvalidSecretError)):
        done = owner.dso("secret", "set", "x", "--from-file", str(tmp_path / name))
        assert done.code == error.code
        assert name in done.err or error is InvalidSecretError


@pytest.mark.parametrize(
    ("words", "length"),
    [
        (("x", "--generate"), 32),
        (("--generate", "x"), 32),
        (("--generate=64", "x"), 64),
        (("x", "--generate=8"), 8),
        (("x", "--generate", "40"), 40),
    ],
)
def test_generated_value_has_its_length_is_url_safe_and_is_not_shown(owner, words, length):
    done = owner.ok("secret", "set", *words)
    value = owner.ok("secret", "get", "x").out
    assert len(value) == length
    assert set(value) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert value not in done.out + done.err
    owner.ok("secret", "set", *words)
    assert owner.ok("secret", "get", "x").out != value


def test_generated_characters_are_equally_likely():
    from dso.cli.secret_values import generate

    counts = Counter(generate(64 * 2000))
    assert len(counts) == 64
    # 2000 expected of each, standard deviation 44: ten of them is out of reach for chance.
    assert max(abs(count - 2000) for count in counts.values()) < 440


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--generate",),
        ("x", "--generate=7"),
        ("x", "--generate=5000"),
        ("x", "--generate=many"),
        ("--generate", "64"),
        ("x", "--generate", "--from-file", "f"),
        ("x", "value-on-the-command-line"),
        ("x#field",),
        ("x?version=2",),
    ],
)
def test_command_lines_that_make_no_sense(owner, words):
    done = owner.dso("secret", "set", *words, stdin=b"v")
    assert done.code == UsageError.code
    assert owner.ok("secret", "list", "-q").out == ""


def test_get_takes_every_form_of_a_reference(owner):
    owner.ok("secret", "set", "key", stdin=b'{"a": 1.0, "b": "x"}')
    owner.ok("secret", "set", "key", stdin=b'{"a": 2, "b": "y"}')
    for ref, expected in {
        "key": b'{"a": 2, "b": "y"}',
        "global/key": b'{"a": 2, "b": "y"}',
        "dso://key#b": b"y",
        "dso://global/key#a?version=1": b"1.0",
        "dsofile://key?version=1": b'{"a": 1.0, "b": "x"}',
        "key#b?version=1": b"x",
    }.items():
        assert owner.ok("secret", "get", ref).stdout == expected


@pytest.mark.parametrize(
    ("ref", "error"),
    [
        ("other", SecretNotFoundError),
        ("shop/key", SecretNotFoundError),
        ("key?version=9", SecretNotFoundError),
        ("key?version=one", SecretNotFoundError),
        ("key#nope", SecretFieldError),
        ("a b", ReferenceSyntaxError),
        ("dso://../x", ReferenceSyntaxError),
        ("vault://x", ReferenceSyntaxError),
    ],
)
def test_get_of_what_is_not_there_says_so_and_prints_nothing(owner, ref, error):
    owner.ok("secret", "set", "key", stdin=CANARY)
    done = owner.dso("secret", "get", ref)
    assert (done.code, done.stdout) == (error.code, b"")
    assert CANARY.decode() not in done.err


def test_missing_secret_proposes_the_nearest_name(owner):
    owner.ok("secret", "set", "shop/db_password", stdin=b"x")
    assert "did you mean shop/db_password?" in owner.dso("secret", "get", "shop/db_pasword").err
    assert "did you mean shop/db_password?" in owner.dso("secret", "get", "db_password").err


def test_list_shows_names_versions_dates_sizes_and_no_values(owner):
    before = int(time.time())
    owner.ok("secret", "set", "shop/b", stdin=CANARY)
    owner.ok("secret", "set", "shop/b", stdin=CANARY + b"2")
    owner.ok("secret", "set", "app/a", stdin=CANARY)
    table = owner.ok("secret", "list").out
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [["app/a", "1"], ["shop/b", "2"]]
    assert table.startswith("NAME ")
    listed = json.loads(owner.ok("secret", "list", "--format", "json").out)
    assert [(one["name"], one["version"], one["size"]) for one in listed] == [("app/a", 1, 13), ("shop/b", 2, 14)]
    assert before <= listed[0]["updated_at"] <= time.time()
    assert owner.ok("secret", "list", "-q").out == "app/a\nshop/b\n"
    assert owner.ok("secret", "list", "shop", "-q").out == "shop/b\n"
    assert CANARY.decode() not in table + json.dumps(listed)


def test_list_of_an_empty_vault_and_of_an_unknown_namespace(owner):
    assert owner.ok("secret", "list", "-q").out == ""
    assert owner.ok("secret", "list", "--format", "json").out == "[]\n"
    owner.ok("secret", "set", "shop/b", stdin=b"x")
    done = owner.dso("secret", "list", "shpo")
    assert done.code == SecretNotFoundError.code
    assert "did you mean shop?" in done.err
    assert owner.dso("secret", "list", "sho").code == SecretNotFoundError.code


def test_rm_takes_all_or_none(owner):
    for name in ("a/x", "a/y", "a/z"):
        owner.ok("secret", "set", name, stdin=b"v")
    done = owner.dso("secret", "rm", "a/x", "a/nope", "b/nope")
    assert done.code == SecretNotFoundError.code
    assert "a/nope" in done.err
    assert "b/nope" in done.err
    owner.ok("secret", "rm", "a/x", "a/y", "a/x", "--force")
    assert owner.ok("secret", "list", "-q").out == "a/z\n"


def test_mv_refuses_an_existing_target_unless_forced(owner):
    owner.ok("secret", "set", "a/x", stdin=b"old")
    owner.ok("secret", "set", "a/x", stdin=b"x")
    owner.ok("secret", "set", "a/y", stdin=b"y")
    assert owner.dso("secret", "mv", "a/x", "a/y").code == SecretExistsError.code
    assert owner.dso("secret", "mv", "a/nope", "a/y").code == SecretNotFoundError.code
    assert owner.ok("secret", "get", "a/y").stdout == b"y"
    owner.ok("secret", "mv", "a/x", "a/y", "--force")
    assert owner.ok("secret", "list", "-q").out == "a/y\n"
    assert owner.ok("secret", "get", "a/y?version=1").stdout == b"old"
    owner.ok("secret", "mv", "a/y", "a/y")
    owner.ok("secret", "mv", "a/y", "plain")
    assert owner.ok("secret", "list", "-q").out == "global/plain\n"


def test_history_and_rollback(owner):
    for value in (b"one", b"two!", b"three"):
        owner.ok("secret", "set", "x", stdin=value)
    listed = json.loads(owner.ok("secret", "history", "x", "--format", "json").out)
    assert [(one["version"], one["size"], one["current"]) for one in listed] == [
        (3, 5, True),
        (2, 4, False),
        (1, 3, False),
    ]
    assert owner.ok("secret", "history", "x", "-q").out == "3\n2\n1\n"
    assert "current" in owner.ok("secret", "history", "x").out.splitlines()[1]
    assert "version 4 has the value of version 2" in owner.ok("secret", "rollback", "x").err
    assert owner.ok("secret", "get", "x").stdout == b"two!"
    owner.ok("secret", "rollback", "x", "1")
    assert owner.ok("secret", "get", "x").stdout == b"one"
    assert "already" in owner.ok("secret", "rollback", "x", "1").err
    assert owner.dso("secret", "rollback", "x", "77").code == SecretNotFoundError.code
    assert owner.dso("secret", "rollback", "x", "last").code == UsageError.code
    assert owner.dso("secret", "rollback", "nope").code == SecretNotFoundError.code
    assert owner.dso("secret", "history", "nope").code == SecretNotFoundError.code


def test_same_value_again_makes_no_version(owner):
    owner.ok("secret", "set", "x", stdin=b"v")
    assert "version 1 has this value already" in owner.ok("secret", "set", "x", stdin=b"v").err


def test_without_a_vault_every_command_says_how_to_make_one(user):
    for words in (("get", "x"), ("set", "x"), ("list",), ("rm", "x"), ("mv", "x", "y"), ("history", "x")):
        done = user.dso("secret", *words, stdin=b"v")
        assert done.code == VaultNotFoundError.code
        assert "docker dso init" in done.err
    assert not user.dso_dir.exists()


@pytest.mark.parametrize(
    "words", [("secret",), ("secret", "set"), ("secret", "get"), ("secret", "list"), ("vault",), ("init",)]
)
def test_help_names_the_command(user, words):
    done = user.dso(*words, "--help")
    assert done.code == 0
    assert "usage: docker dso " + " ".join(words) in done.out


@pytest.mark.parametrize(("target", "said"), [("/dev/full", "no space left"), (None, "bad file descriptor")])
def test_output_that_cannot_be_written_is_an_error(owner, target, said):
    owner.ok("secret", "set", "x", stdin=CANARY)
    kept = os.dup(1)
    if target:
        full = os.open(target, os.O_WRONLY)
        os.dup2(full, 1)
        os.close(full)
    else:
        os.close(1)
    try:
        done = owner.dso("secret", "get", "x")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert done.code == FileAccessError.code
    assert said in done.err
    assert CANARY.decode() not in done.err


def test_closed_standard_input_is_an_error(owner, monkeypatch):
    def closed(descriptor, _count):
        raise OSError(9, "Bad file descriptor")

    with monkeypatch.context() as patch:
        patch.setattr("dso.cli.secret_values.os.read", closed)
        done = owner.dso("secret", "set", "x")
    assert done.code == FileAccessError.code
    assert "standard input" in done.err
