"""Fields of JSON objects, as references pick them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.errors import SecretFieldError
from dso.protocol.fields import MAX_BYTES, MAX_VALUES, field_names, field_of, fields_of
from dso.secret import SecretValue

OBJECT = (
    b'{"user": "app", "password": "p\\u00e4ss\\n\\"$", "port": 5432, "ratio": 1.0, "big": 12345678901234567890,'
    b' "exp": 1e3, "neg": -0.50, "yes": true, "no": false, "none": null, "list": [1.50, {"a": "b"}], "empty": ""}'
)


def _field(value, field=None, *, as_file=False):
    return field_of(SecretValue(value), field, name="shop/x", as_file=as_file).reveal()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("user", b"app"),
        ("password", 'päss\n"$'.encode()),
        ("port", b"5432"),
        ("ratio", b"1.0"),
        ("big", b"12345678901234567890"),
        ("exp", b"1e3"),
        ("neg", b"-0.50"),
        ("yes", b"true"),
        ("no", b"false"),
        ("list", b'[1.50,{"a":"b"}]'),
        ("empty", b""),
        ("value", OBJECT),
    ],
)
@pytest.mark.parametrize("as_file", [False, True])
def test_field_of_an_object(field, expected, as_file):
    assert _field(OBJECT, field, as_file=as_file) == expected


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":[' + b"1," * MAX_VALUES + b"1]}",
        b'{"a":[' + b'"",' * 20 * MAX_VALUES + b"1]}",
        b'{"a":[' + b"[]," * MAX_VALUES + b"1]}",
        b'{"a":' * 100_000,
        b'{"a": "' + b"x" * MAX_BYTES + b'"}',
    ],
)
def test_what_is_too_large_to_look_into_can_be_had_as_a_whole_only(value, monkeypatch):
    monkeypatch.setattr("dso.system.json_fast.loads_literal", lambda _: pytest.fail("it is parsed"))
    assert _field(value, as_file=True) == _field(value, "value") == value
    for field in (None, "a"):
        with pytest.raises(SecretFieldError, match="too large to have fields") as refusal:
            _field(value, field)
        assert "dso://shop/x#value" in refusal.value.hint


def test_text_within_strings_does_not_make_a_value_too_large():
    csv = "1,[2],{3}," * MAX_VALUES + r'"quoted\" and \\'
    value = json.dumps({"csv": csv, "other": [1] * (MAX_VALUES - 4)}).encode()
    assert _field(value, "csv") == csv.encode()


def test_file_without_field_is_the_bytes_untouched():
    assert _field(OBJECT, as_file=True) == OBJECT
    assert _field(b'{"a": 1}\n', as_file=True) == b'{"a": 1}\n'


def test_variable_from_an_object_with_one_field_is_that_field():
    assert _field(b' {"password": "x"} \n') == b"x"


def test_variable_from_an_object_with_several_fields_names_them_and_no_value():
    with pytest.raises(SecretFieldError) as refusal:
        _field(OBJECT)
    assert "user, password, port" in refusal.value.message
    assert "dso://shop/x#FIELD" in refusal.value.hint
    assert "dsofile://shop/x" in refusal.value.hint
    assert not any(value in refusal.value.message + refusal.value.hint for value in ("app", "5432", "12345"))


@pytest.mark.parametrize(
    "value",
    [
        b"hunter2",
        b"{not json",
        b"{}",
        b"[1, 2]",
        b'"text"',
        b"12",
        b"null",
        b'{"a": NaN}',
        b'{"a": 1} x',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"\x00\xff",
        b"{" * 4000,
        b'{"a":' * 4000,
        b" \n",
    ],
)
def test_value_that_is_no_object_with_fields_is_untouched(value):
    assert _field(value) == value
    assert _field(value, "value") == value
    assert _field(value, "value", as_file=True) == value


@pytest.mark.parametrize(
    ("value", "field", "advice"),
    [(b"hunter2", "user", "leave out #user"), (OBJECT, "usr", "it has: user"), (b"{}", "a", "none")],
)
def test_missing_field_says_what_there_is_and_no_value(value, field, advice):
    with pytest.raises(SecretFieldError) as refusal:
        _field(value, field)
    assert advice in refusal.value.hint
    assert "hunter2" not in refusal.value.message + refusal.value.hint


def test_null_is_an_error():
    for field in ("none", None):
        with pytest.raises(SecretFieldError, match="null"):
            _field(b'{"none": null}', field)


def test_text_without_a_form_in_utf8_is_an_error():
    with pytest.raises(SecretFieldError, match="UTF-8"):
        _field(b'{"a": "\\ud800"}')


def test_field_named_value_wins_over_the_whole():
    assert _field(b'{"value": "x", "b": 1}', "value") == b"x"


def test_control_characters_in_field_names_do_not_reach_the_terminal():
    with pytest.raises(SecretFieldError) as refusal:
        _field(b'{"\\u001b[2J": 1, "b": 2}')
    assert "\x1b" not in refusal.value.message


@given(st.dictionaries(st.text(max_size=5), st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_every_string_field_comes_out_as_it_is(members):
    for name, text in members.items():
        assert _field(json.dumps(members).encode(), name) == text.encode()


def test_all_fields_are_what_each_of_them_is():
    value = SecretValue(b'{"s": "x", "n": 1.10, "none": null, "o": {"a": [1]}, "value": true}')
    found = fields_of(value, name="shop/db")
    assert {name: one and one.reveal() for name, one in found.items()} == {
        "s": b"x",
        "n": b"1.10",
        "none": None,
        "o": b'{"a":[1]}',
        "value": b"true",
    }
    assert field_names(value) == ("s", "n", "none", "o", "value")


@pytest.mark.parametrize("raw", [b"text", b"[1]", b"\xff", b'{"a": ', b""])
def test_what_is_no_object_has_no_fields(raw):
    assert field_names(SecretValue(raw)) is None
    assert fields_of(SecretValue(raw), name="x") is None


def test_empty_object_has_no_fields_but_is_one():
    assert field_names(SecretValue(b"{}")) == ()
    assert fields_of(SecretValue(b"{}"), name="x") == {}
