"""What several of these modules share; the rest is in tests/conftest.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.engine import Images
from tests.support.private_engine import PrivateEngine
from tests.support.process import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def private() -> Iterator[PrivateEngine]:
    """An Engine of the module's own, with busybox, which finds no volume driver but this module's.

    An Engine asks every driver it has ever seen for its volumes, and waits for one that is gone.
    """
    run([os.path.join(ROOT, "build", "machine", "images.sh"), "busybox"], timeout=600)
    with PrivateEngine(own_plugins=True) as engine:
        engine.load(Images().busybox)
        yield engine
