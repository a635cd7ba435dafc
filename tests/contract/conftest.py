"""DSO's own plugins are tested twice: from source, and frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.home import VARIANTS

if TYPE_CHECKING:
    import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that starts a plugin of DSO's each variant, or the one of `--variant`."""
    if "variant" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--variant")
        metafunc.parametrize("variant", [chosen] if chosen else VARIANTS, scope="session")
