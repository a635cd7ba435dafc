"""Key Vault's own name of a secret is shown to whoever wants to know: by `--debug`, and in the agent's log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dso import paths
from tests.support.agent import Agent
from tests.support.azure import AzureCloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.project import Project

VALUE = "value-that-is-secret"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with AzureCloud() as azure:
        azure.put("db-pass", VALUE)
        azure.put("plain", VALUE)
        found = Agent(env=azure.environment())
        found.install_frozen("azure")
        settings = json.dumps({"type": "azure", **azure.settings()})
        found.write_config(f"providers:\n  az: {settings}\n", log_level="debug")
        with found:
            found.start()
            yield found


def test_translated_name_is_shown_by_debug_and_in_the_log(agent: Agent, project: Project) -> None:
    service = "image: dso-test/busybox\n    command: sleep 1000\n    stop_signal: SIGKILL\n    network_mode: none"
    variables = "{A: dso://az/db_pass, B: dso://az/plain}"
    project.compose_yaml(f"services:\n  api:\n    {service}\n    environment: {variables}\n")
    env = {paths.SOCKET_VARIABLE: agent.socket, "DSO_MODE": "cloud"}
    told = project.dso("up", "-d", "--debug", env=env).err
    assert "debug: dso://az/db_pass is the secret db-pass in its backend" in told
    assert "plain is" not in told
    assert "in its backend" not in project.dso("up", "-d", env=env).err
    (line,) = [line for line in project.dso("logs", env=env).out.splitlines() if "db_pass is the secret" in line]
    assert "az: db_pass is the secret db-pass in Key Vault" in line
    assert VALUE not in told + line
