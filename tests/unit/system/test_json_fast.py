"""The quick JSON agrees with the standard library's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.system.json_fast import Number, dumps, has_more_values, loads, loads_literal

ROOT = str(Path(__file__).resolve().parents[3])

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(_VALUES)
def test_dumps_is_the_standard_librarys(value):
    assert dumps(value) == json.dumps(value, separators=(",", ":"))


@given(_VALUES, st.sampled_from(["", " ", "\n\t \r"]), st.sampled_from([None, 1]))
def test_loads_is_the_standard_librarys(value, space, indent):
    text = space + json.dumps(value, indent=indent) + space
    assert loads(text) == json.loads(text)


@given(st.text(st.sampled_from('{}[]",:0123456789.eE+-truefalsn \n\\u')))
def test_any_text_is_read_or_refused_alike(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            loads(text)
    else:
        assert loads(text) == expected


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '{"a": NaN}', "", " ", "{", "1 2", "\ufeff1", "[1,]"])
def test_what_is_not_json_is_refused(text):
    for read in (loads, loads_literal):
        with pytest.raises(ValueError):
            read(text)


def test_numbers_keep_their_digits():
    text = '[1.0,1e3,-0,12345678901234567890,-1.50E+2,{"a":0.10}]'
    value = loads_literal(text)
    assert isinstance(value, list)
    assert isinstance(value[0], Number)
    assert value[:2] == ["1.0", "1e3"]
    assert dumps(value) == text


def test_number_with_thousands_of_digits_is_text():
    assert dumps(loads_literal("9" * 10_000)) == "9" * 10_000


@given(
    st.recursive(
        st.one_of(st.integers(), st.text(alphabet='a,[{"\\ä'), st.none()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(alphabet='b,{"\\'), inner)),
    ),
    st.booleans(),
)
def test_values_are_counted_without_parsing_and_never_too_few(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    count = _values(value)
    assert not has_more_values(text, max(len(text), 1))
    assert has_more_values(text, count - 1) or count < 2
    assert not has_more_values(text, 2 * count), "an empty list or object counts as two"


def _values(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_values, inner))


def test_what_has_no_form_in_json_is_refused():
    for value in (b"x", {1: 2}, object()):
        with pytest.raises(TypeError):
            dumps(value)


def test_neither_json_nor_re_is_imported():
    script = (
        "import sys; from dso.system.json_fast import dumps, loads\n"
        "dumps(loads('[1, null]')); print('json' in sys.modules, 're' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["False", "False"]
