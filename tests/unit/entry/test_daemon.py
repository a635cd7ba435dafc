"""The data files in a frozen program."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from dso.entry.daemon import PackedData, packed_data
from tests.support.process import PYTHON, ROOT, run

FILES = {"data/botocore/endpoints.json": b"{}", "data/one": b"1", "extension/_json": b"", "answer/one": b"no"}


def test_only_data_are_listed_and_read() -> None:
    data = PackedData(list(FILES), FILES.__getitem__)
    assert data.data_names() == ["botocore/endpoints.json", "one"]
    assert data.read("botocore/endpoints.json") == b"{}"
    assert data.read("one") == b"1"
    for name in ("_json", "two", "", "../answer/one", "data/one"):
        with pytest.raises(KeyError):
            data.read(name)


def test_they_are_those_of_the_executable(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = ModuleType("_archive")
    vars(archive).update(names=lambda: list(FILES), read=FILES.__getitem__)
    monkeypatch.setitem(sys.modules, "_archive", archive)
    data = packed_data()
    assert data is not None
    assert data.read("one") == b"1"


def test_from_source_there_are_none() -> None:
    assert packed_data() is None


def test_whoever_trusts_certifi_by_default_trusts_nobody() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from dso.entry.daemon import without_certifi
without_certifi()
import requests
try:
    requests.get("https://127.0.0.1:9/")
except OSError as error:
    print(error)
"""
    done = run([PYTHON, "-P", "-c", code, ROOT], env={})  # without REQUESTS_CA_BUNDLE
    assert done.out == "Could not find a suitable TLS CA certificate bundle, invalid path: \n"
