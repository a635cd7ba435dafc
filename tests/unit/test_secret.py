"""References and values: the grammar, and that a value shows itself to nobody."""

import copy
import json
import logging
import pickle

import pytest

from dso.errors import ReferenceSyntaxError
from dso.secret import MASK, SecretRef, SecretValue, mac

CANARY = b"canary-7f3a"


@pytest.mark.parametrize(
    ("text", "path", "is_file", "field", "version"),
    [
        ("dso://shop/api_key", "shop/api_key", False, None, None),
        ("dso://api_key", "api_key", False, None, None),
        ("dsofile://shop/db/password", "shop/db/password", True, None, None),
        ("dso://shop/db#password", "shop/db", False, "password", None),
        ("dso://shop/db#a.b-c_d?version=3", "shop/db", False, "a.b-c_d", "3"),
        ("dso://shop/db?version=AWSCURRENT", "shop/db", False, None, "AWSCURRENT"),
        ("dso://a..b/c...", "a..b/c...", False, None, None),
    ],
)
def test_well_formed_reference_reads_and_prints_back(text, path, is_file, field, version):
    reference = SecretRef.parse(text)
    assert (reference.path, reference.is_file, reference.field, reference.version) == (path, is_file, field, version)
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "dso://",
        "dso:///key",
        "dso://shop/",
        "dso://shop//key",
        "dso://shop/../key",
        "dso://./key",
        "dso://shop/k ey",
        "dso://shop/käy",
        "dso://shop/key#",
        "dso://shop/key#a/b",
        "dso://shop/key?version=",
        "dso://shop/key?v=1",
        "dso://shop/key?version=1&x=2",
        "dso://" + "a" * 520,
        "vault://shop/key",
        "dso://shop/key\n",
    ],
)
def test_malformed_reference_is_refused_with_the_grammar(text):
    with pytest.raises(ReferenceSyntaxError) as caught:
        SecretRef.parse(text)
    assert "dso://[NAMESPACE/]PATH[#FIELD][?version=V]" in caught.value.hint


def test_reference_of_512_bytes_is_accepted():
    text = "dso://" + "a" * 506
    assert str(SecretRef.parse(text)) == text


def test_references_are_equal_by_content_and_immutable():
    reference = SecretRef.parse("dso://a/b")
    assert {reference: 1}[SecretRef.parse("dso://a/b")] == 1
    assert reference != SecretRef.parse("dsofile://a/b")
    with pytest.raises(AttributeError):
        reference.path = "c"


def test_value_masks_itself_everywhere(caplog):
    value = SecretValue(CANARY)
    logging.getLogger("dso.test").warning("value %s %r", value, value)
    shown = [
        repr(value),
        str(value),
        f"{value}",
        f"{value:>20}",
        f"{value!r}",
        "%s" % (value,),  # noqa: UP031  # the old way of formatting must not show it either
        repr([value]),
        caplog.text,
    ]
    assert not any("canary" in text for text in shown)
    assert MASK in str(value)
    assert value.reveal() == CANARY


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, hash])
def test_value_refuses_to_be_serialised(leak):
    with pytest.raises(TypeError) as caught:
        leak(SecretValue(CANARY))
    assert "canary" not in str(caught.value)


def test_values_compare_by_content():
    assert SecretValue(b"a") == SecretValue(b"a")
    assert SecretValue(b"a") != SecretValue(b"b")
    assert SecretValue(b"a") != b"a"


def test_mac_depends_on_key_value_and_every_part_of_the_context():
    base = mac(b"k" * 32, SecretValue(b"v"), "env", "api", "KEY")
    others = [
        mac(b"l" * 32, SecretValue(b"v"), "env", "api", "KEY"),
        mac(b"k" * 32, SecretValue(b"w"), "env", "api", "KEY"),
        mac(b"k" * 32, SecretValue(b"v"), "env", "apiK", "EY"),
        mac(b"k" * 32, SecretValue(b"v"), "env", "api"),
    ]
    assert len({base, *others}) == 5
    assert base == mac(b"k" * 32, SecretValue(b"v"), "env", "api", "KEY")
    assert len(base) == 32
