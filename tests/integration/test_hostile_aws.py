"""`dso-provider-aws`, from source and frozen, with servers that answer as AWS never would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import INVALID_REQUEST, PLUGIN_OVERSIZED, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from dso.providers.aws import PAGES
from dso.providers.serve import WORKERS
from tests.support.hostile_aws import CANARY, MIB, HostileAws
from tests.support.plugin import Plugin, plugin_argv, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., Plugin]

MOST_MEMORY = 160 * MIB  # a plugin that does nothing has a third of that
TIMEOUT = 5.0


@pytest.fixture
def aws() -> Iterator[HostileAws]:
    with HostileAws() as server:
        yield server


@pytest.fixture(params=["source", "frozen"])
def start(request: pytest.FixtureRequest, aws: HostileAws) -> Iterator[Start]:
    """Start the plugin; what is in `config` counts instead of keys."""
    started: list[Plugin] = []

    def begin(config: dict[str, Any] | None = None, *, timeout: float = TIMEOUT, **env: str) -> Plugin:
        env = {"AWS_EC2_METADATA_DISABLED": "true", **env}
        plugin = Plugin(plugin_argv("dso-provider-aws", request.param), env).__enter__()
        started.append(plugin)
        keys = {"access_key_id": "AKIA", "secret_access_key": "secret"}
        settings = {"region": "eu-central-1", "endpoint_url": aws.endpoint, **(keys if config is None else config)}
        plugin.initialize(settings, timeout=timeout)
        return plugin

    yield begin
    for plugin in started:
        plugin.__exit__(None, None, None)


def failure(plugin: Plugin, path: str) -> ProviderError:
    found = plugin.get(path)
    assert isinstance(found, ProviderError)
    assert CANARY not in found.message
    assert "\x1b" not in found.message
    return found


def assert_serves(plugin: Plugin) -> None:
    found = plugin.get("honest")
    assert isinstance(found, SecretData), found
    assert found.content.reveal() == b"honest"


def most_memory(plugin: Plugin) -> int:
    with open(f"/proc/{plugin.process.pid}/status") as status:
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read())
    assert found
    return int(found[1]) * 1024


def test_an_answer_that_is_too_long_is_not_read_to_its_end_and_not_asked_for_again(
    start: Start, aws: HostileAws
) -> None:
    plugin = start(timeout=30)
    assert failure(plugin, "flood").code == PLUGIN_OVERSIZED
    assert aws.asked["flood"] == 1
    assert most_memory(plugin) < MOST_MEMORY
    assert_serves(plugin)


def test_an_answer_that_is_packed_is_not_unpacked(start: Start) -> None:
    plugin = start(timeout=30)
    assert failure(plugin, "bomb").code in (UNAVAILABLE, INVALID_REQUEST)
    assert most_memory(plugin) < MOST_MEMORY
    assert_serves(plugin)


@pytest.mark.parametrize("where", ["drip", "headers"])
def test_answers_that_trickle_hold_no_thread_beyond_the_deadline(start: Start, aws: HostileAws, where: str) -> None:
    plugin = start()
    asked = [plugin.send("get", request(where)) for _ in range(WORKERS)]
    for number in asked:
        assert plugin.answer(number).code == UNAVAILABLE
    aws.wait_until_dripping(0)  # all connections are closed, with nothing but the plugin to end them
    assert_serves(plugin)


def test_a_pause_that_the_server_asks_for_is_not_made_where_it_outlasts_the_deadline(
    start: Start, aws: HostileAws
) -> None:
    plugin = start(timeout=4)  # which is less than the pause
    assert "failed to answer" in failure(plugin, "pause").message  # what it said, and not that it said nothing in time
    assert aws.asked["pause"] == 1


def test_pages_without_end_are_given_up_and_secrets_asked_for_one_by_one(start: Start, aws: HostileAws) -> None:
    plugin = start(timeout=30)
    found = plugin.get_many(("a", None), ("b", None))
    assert [one.content.reveal() for one in found if isinstance(one, SecretData)] == [b"a", b"b"]
    assert aws.asked["BatchGetSecretValue"] == PAGES


def test_a_code_that_is_none_of_awss_is_not_repeated(start: Start) -> None:
    assert failure(start(timeout=30), "code").code == INVALID_REQUEST


@pytest.mark.parametrize("path", ["long-version", "no-text", "no-json"])
def test_an_answer_in_another_form_than_awss_is_a_fault_of_the_backend(start: Start, path: str) -> None:
    plugin = start(timeout=30)
    found = failure(plugin, path)
    assert found.code == UNAVAILABLE
    assert "plugin" not in found.message
    listed, honest = plugin.get_many((path, None), ("honest", None))
    assert isinstance(listed, ProviderError)
    assert isinstance(honest, SecretData)
    assert_serves(plugin)


def sources(endpoint: str, answer: str) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    """Where credentials come from: settings, and variables."""
    keys = {"access_key_id": "AKIA", "secret_access_key": "secret"}
    role = {"role_arn": f"arn:aws:iam::123456789012:role/{answer}", "sts_endpoint_url": endpoint}
    machine = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{endpoint}/{answer}"}
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{endpoint}/{answer}"}
    return {"sts": ({**keys, **role}, {}), "machine": ({}, machine), "container": ({}, container)}


@pytest.mark.parametrize("source", ["sts", "machine", "container"])
def test_what_gives_credentials_cannot_flood_the_plugin(start: Start, aws: HostileAws, source: str) -> None:
    config, env = sources(aws.endpoint, "flood")[source]
    plugin = start(config, timeout=10, **env)
    failure(plugin, "any")
    assert aws.asked["flood"] >= 1
    assert most_memory(plugin) < MOST_MEMORY


@pytest.mark.parametrize("source", ["sts", "machine", "container"])
def test_what_gives_credentials_cannot_hold_a_thread_beyond_the_deadline(
    start: Start, aws: HostileAws, source: str
) -> None:
    config, env = sources(aws.endpoint, "drip")[source]
    plugin = start(config, **env)
    failure(plugin, "any")
    assert aws.asked["drip"] >= 1
    aws.wait_until_dripping(0)
