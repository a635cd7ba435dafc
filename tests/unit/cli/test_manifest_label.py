"""What stands in a container's label may be anybody's: it is read, or it is nothing."""

from __future__ import annotations

import json

import pytest

from dso import paths
from dso.cli.changes import manifest
from dso.cli.cmd_inspect import describe

GOOD = {"environment": {"KEY": ["dso://shop/key", "mac"]}, "files": {"/run/x": ["dsofile://shop/x", "mac"]}}


def test_label_that_dso_wrote_is_read() -> None:
    assert manifest({paths.LABEL_MANIFEST: json.dumps(GOOD)}) == GOOD
    assert manifest({}) == {}


@pytest.mark.parametrize(
    "text",
    [
        *["", "{", "[" * 100_000, "1", "null", "[]", '"x"', '{"environment": 1}', '{"environment": ["KEY"]}'],
        *['{"environment": {"KEY": 1}}', '{"environment": {"KEY": []}}', '{"environment": {"KEY": [[]]}}'],
    ],
)
def test_label_that_makes_no_sense_is_no_secret_and_no_failure(text: str) -> None:
    labels = {paths.LABEL_MANIFEST: text}
    assert not any(manifest(labels).values())
    found = {"Name": "/x", "Config": {"Labels": labels, "Env": ["KEY=value"]}, "Mounts": []}
    assert describe(found)["environment"] == [{"name": "KEY", "value": "value", "reference": ""}]
