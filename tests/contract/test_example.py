"""The plugin of docs/examples, a stranger's in a few lines, keeps the contract too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.protocol.codes import PLUGIN_OVERSIZED
from dso.protocol.provider import MAX_MESSAGE_BYTES
from tests.contract.backend import Backend, assert_error
from tests.contract.provider_contract import ProviderContract
from tests.support.process import ROOT

if TYPE_CHECKING:
    from tests.support.plugin import Plugin

PROGRAM = os.path.join(ROOT, "docs", "examples", "dso-provider-example")
SPECIFICATION = os.path.join(ROOT, "docs", "provider-protocol.md")
PASSWORD, WRONG = "correct horse battery", "wrong horse"


class Files(Backend):
    """A directory."""

    type = "example"
    kinds = ("text", "binary")
    largest = MAX_MESSAGE_BYTES - 1000
    env: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, directory: str) -> None:
        self._directory = directory
        with open(f"{directory}/.password", "w") as file:
            file.write(PASSWORD)
        self.config = {"directory": directory, "password": PASSWORD}
        self.unreachable = {"directory": f"{directory}/absent", "password": PASSWORD}
        self.bad_credentials = [{"directory": directory, "password": WRONG}]
        self.credentials = [PASSWORD, WRONG]

    def put(self, path: str, content: bytes, kind: str) -> str:
        directory = os.path.join(self._directory, path)
        os.makedirs(directory, exist_ok=True)
        version = str(len(os.listdir(directory)) + 1)
        with open(os.path.join(directory, version), "xb") as file:
            file.write(content)
        return version


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return Files(str(tmp_path_factory.mktemp("secrets")))


class TestExample(ProviderContract):
    @pytest.fixture
    def argv(self) -> list[str]:
        return [PROGRAM]

    def test_a_secret_for_which_a_message_has_no_room_is_told_as_that(
        self, plugin: Plugin, backend: Backend, path: str
    ) -> None:
        backend.put(path, b"x" * MAX_MESSAGE_BYTES, "text")
        assert_error(plugin.get(path), PLUGIN_OVERSIZED)
        backend.put(path, b"small", "text")
        assert not isinstance(plugin.get(path), Exception)


def test_the_specification_shows_the_way_to_it() -> None:
    with open(SPECIFICATION) as file:
        assert "(examples/dso-provider-example)" in file.read()
