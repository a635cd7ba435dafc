"""The encrypted part: index and values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.errors import VaultDamagedError
from dso.vault.payload import Payload, Version, build_payload

_SEGMENT = st.text("abzAZ09_.-", min_size=1, max_size=6).filter(lambda text: text not in (".", ".."))
_NAME = st.lists(_SEGMENT, min_size=2, max_size=4).map("/".join)
_VERSIONS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6)


def _payload(secrets):
    listed = {
        name: [Version(len(values) - place, 1700000000, value) for place, value in enumerate(values)]
        for name, values in secrets.items()
    }
    return Payload(build_payload({"created": 1, "mac_key": "00"}, listed))


@given(st.dictionaries(_NAME, _VERSIONS, max_size=8))
def test_what_is_built_is_read_back(secrets):
    payload = _payload(secrets)
    assert payload.names() == sorted(secrets)
    for name, values in secrets.items():
        assert [bytes(version.content) for version in payload.versions(name)] == values
    entries = {name: [bytes(v.content) for v in versions] for name, versions in payload.entries()}
    assert entries == secrets
    assert payload.verify() == (len(secrets), sum(map(len, secrets.values())))


def test_value_that_looks_like_an_index_line_is_no_secret():
    payload = _payload({"a/b": [b'\n["c/d",[[1,1,0,1]]]\n', b'["c/d",[[1,1,0,1]]]\n']})
    assert payload.versions("c/d") is None
    assert payload.versions("a/b")[0].number == 2


@pytest.mark.parametrize("name", ["a/", "a", "b/b", "a/b/c", 'a/b",[[1', "", "created", "\n"])
def test_only_a_whole_name_is_found(name):
    assert _payload({"a/b": [b"x"], "a/bc": [b"y"], "aa/b": [b"z"]}).versions(name) is None


def test_first_and_last_secret_are_found():
    payload = _payload({name: [name.encode()] for name in ("a/a", "m/m", "z/z")})
    assert [bytes(payload.versions(name)[0].content) for name in ("a/a", "m/m", "z/z")] == [b"a/a", b"m/m", b"z/z"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"[]\n",
        b'{"index":"1"}\n',
        b'{"created":1}\n',
        b'{"index":6,"count":1}\n["a/b"',
    ],
)
def test_content_that_makes_no_sense_is_reported(content):
    with pytest.raises(VaultDamagedError):
        Payload(content).verify()


@pytest.mark.parametrize(
    "line",
    [
        '["a/b",[]]',
        '["a/b",[[1,1,0]]]',
        '["a/b",[[1,1,0,0]]]',
        '["a/b",[[1,1,0,2]]]',
        '["a/b",[[1,1,1,1]]]',
        '["a/b",[[1,1,-1,1]]]',
        '["a/b",[[0,1,0,1]]]',
        '["a/b",[["x",1,0,1]]]',
        '["a/b",[[1,1,"x",1]]]',
        '["a/b",{}]',
        '["a/b"]',
        "[1,[[1,1,0,1]]]",
        "{}",
        "x",
    ],
)
def test_index_line_that_makes_no_sense_is_reported(line):
    index = line.encode() + b"\n"
    with pytest.raises(VaultDamagedError):
        Payload(b'{"index":%d,"count":1}\n' % len(index) + index + b"v").verify()


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (['["b/b",[[1,1,0,1]]]', '["a/a",[[1,1,1,1]]]'], b"vw"),
        (['["a/a",[[1,1,0,1]]]', '["a/a",[[1,1,1,1]]]'], b"vw"),
        (['["a/a",[[1,1,0,1],[2,1,1,1]]]'], b"vw"),
        (['["a/a",[[1,1,0,1],[1,1,1,1]]]'], b"vw"),
        (['["a/a",[[1,1,0,1]]]'], b"vw"),
    ],
)
def test_disorder_and_left_over_bytes_are_reported(lines, values):
    index = "".join(f"{line}\n" for line in lines).encode()
    with pytest.raises(VaultDamagedError):
        Payload(b'{"index":%d,"count":%d}\n' % (len(index), len(lines)) + index + values).verify()
