"""The version is told in two places, and to Docker."""

from __future__ import annotations

import json
import os

from dso.entry.metadata import ANSWER
from dso.version import SHORT_DESCRIPTION, URL, VENDOR, VERSION
from tests.support.process import ROOT


def test_the_file_version_and_the_module_agree() -> None:
    with open(os.path.join(ROOT, "VERSION")) as file:
        assert file.read() == VERSION + "\n"


def test_metadata_is_json_of_what_the_module_says() -> None:
    assert json.loads(ANSWER) == {
        "SchemaVersion": "0.1.0",
        "Vendor": VENDOR,
        "Version": VERSION,
        "ShortDescription": SHORT_DESCRIPTION,
        "URL": URL,
    }
