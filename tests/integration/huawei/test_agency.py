"""Keys of an ECS's agency: the metadata service at its real address, in a network of the test's own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from dso.protocol.codes import PERMISSION_DENIED, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.huawei_iam import READ
from tests.servers.huawei_metadata import ADDRESS, KEYS_PATH, OPTIONAL, REQUIRED, TOKEN_PATH, UNKNOWN
from tests.support.cloud_machine import CloudMachine
from tests.support.connect_proxy import ConnectProxy
from tests.support.http_proxy import HttpProxy, Reply
from tests.support.huawei import IAM, METADATA, HuaweiCloud, fault, provider, read
from tests.support.network import OwnNetwork
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "agency-secret"


class Ecs(CloudMachine[HuaweiCloud]):
    """An Elastic Cloud Server, with a secret in the same cloud."""

    def __init__(self) -> None:
        super().__init__(lambda proxy: HuaweiCloud(proxy=proxy))

    def __enter__(self) -> Self:
        super().__enter__()
        self.huawei.put(NAME, "value")
        return self

    @property
    def huawei(self) -> HuaweiCloud:
        return self.cloud

    def plugin(self, environment: dict[str, str] | None = None, *, variant: str = "source", **more: Any) -> Plugin:
        """A plugin that runs there, initialized; `more` are its settings."""
        plugin = self.inside("dso-provider-huawei", environment, variant=variant)
        plugin.initialize(agency(self.huawei, **more), timeout=30)
        return plugin

    def asked(self) -> list[str]:
        """What the metadata service was asked for."""
        return self.service.requests()


def agency(huawei: HuaweiCloud, **more: Any) -> dict[str, Any]:
    return huawei.settings(auth={"method": "agency"}, **more)


@pytest.fixture(scope="module")
def shared() -> Iterator[Ecs]:
    with Ecs() as found:
        yield found


@pytest.fixture
def ecs(shared: Ecs) -> Iterator[Ecs]:
    shared.huawei.clear()
    shared.service.clear()
    yield shared
    metadata = shared.huawei.metadata
    shared.huawei.recover()
    metadata.actions, metadata.tokens, metadata.seconds = READ, UNKNOWN, 86400.0
    metadata.issued.clear()


def refusal(plugin: Plugin) -> ProviderError:
    """What it says to `get` and `check` alike."""
    found = plugin.get(NAME)
    assert isinstance(found, ProviderError)
    assert plugin.call("check").code == found.code
    assert "tested" in found.message
    return found


def assert_reads(plugin: Plugin) -> None:
    found = plugin.get(NAME)
    assert isinstance(found, SecretData), found
    assert found.content.reveal() == b"value"


def token_of(seen: Any) -> str:
    return str(seen.headers["x-security-token"])


@pytest.mark.parametrize("which", ["source", "frozen"])
def test_keys_of_the_agency_are_asked_for_once(ecs: Ecs, which: str) -> None:
    with ecs.plugin(variant=which) as plugin:
        assert ecs.asked() == [], "not before a secret is asked for"
        for _ in range(3):
            assert_reads(plugin)
        assert plugin.call("check").error is None
        (keys,) = ecs.huawei.metadata.issued
        assert not [part for part in keys if part.encode() in plugin.stderr]
    assert ecs.asked().count(f"GET {KEYS_PATH}") == 1
    assert {token_of(seen) for seen in ecs.huawei.server.seen} == {keys.token}


@pytest.mark.parametrize("which", ["source", "frozen"])
def test_keys_that_have_expired_are_replaced_and_the_request_succeeds(ecs: Ecs, which: str) -> None:
    with ecs.plugin(variant=which) as plugin:
        assert_reads(plugin)
        ecs.huawei.iam.expire(ecs.huawei.metadata.issued[0])
        assert_reads(plugin)
        assert_reads(plugin)
    assert len(ecs.huawei.metadata.issued) == 2
    assert len(ecs.huawei.reads()) == 4, "the one with the old keys, and one for each secret"


def test_keys_that_are_refused_time_and_again_are_not_asked_for_without_end(ecs: Ecs) -> None:
    ecs.huawei.iam.clock_offset = 1000
    with ecs.plugin() as plugin:
        found = plugin.get(NAME)
    assert isinstance(found, ProviderError)
    assert found.code == UNAUTHENTICATED
    assert "clock" in found.message
    assert len(ecs.huawei.metadata.issued) <= 2
    assert len(ecs.huawei.reads()) <= 2


def test_keys_are_used_for_the_project_too(ecs: Ecs) -> None:
    ecs.huawei.metadata.actions = (*READ, "iam:projects:listProjects")
    with ecs.plugin(project_id=None) as plugin:
        assert_reads(plugin)
        ecs.huawei.iam.expire(ecs.huawei.metadata.issued[0])
        assert_reads(plugin)
    assert len(ecs.huawei.requests(IAM)) == 1
    assert len(ecs.huawei.metadata.issued) == 2


def test_metadata_service_is_never_asked_through_a_proxy(ecs: Ecs) -> None:
    """`HTTP_PROXY` and `ALL_PROXY` name one as well."""
    proxies = dict.fromkeys(["HTTP_PROXY", "http_proxy", "ALL_PROXY"], ecs.huawei.proxy.address)
    with ecs.plugin(proxies) as plugin:
        assert_reads(plugin)
    assert set(ecs.huawei.proxy.hosts()) == {"kms.cn-north-4.myhuaweicloud.com"}


@pytest.mark.parametrize("tokens", [UNKNOWN, OPTIONAL, REQUIRED])
def test_tokens_of_the_metadata_service_are_used_where_it_has_them(ecs: Ecs, tokens: str) -> None:
    ecs.huawei.metadata.tokens = tokens
    with ecs.plugin() as plugin:
        assert_reads(plugin)
        ecs.huawei.metadata.forget_tokens()
        ecs.huawei.iam.expire(ecs.huawei.metadata.issued[0])
        assert_reads(plugin)
    with_token = ["x-metadata-token" in seen.headers for seen in ecs.service.seen if seen.path == KEYS_PATH]
    assert all(with_token) == (tokens != UNKNOWN)
    assert ecs.asked().count(f"PUT {TOKEN_PATH}") == (1 if tokens == UNKNOWN else 2)


def test_agency_without_the_permission_is_refused(ecs: Ecs) -> None:
    ecs.huawei.metadata.actions = ()
    with ecs.plugin() as plugin:
        found = plugin.get(NAME)
        assert isinstance(found, ProviderError)
        assert (found.code, NAME in found.message) == (PERMISSION_DENIED, True)
        assert plugin.call("check").error is None, "the credentials are good"


def test_machine_without_an_agency_says_so(ecs: Ecs) -> None:
    ecs.huawei.metadata.actions = None
    with ecs.plugin() as plugin:
        error = refusal(plugin)
        assert error.code == UNAUTHENTICATED
        assert "agency" in error.message
        ecs.huawei.metadata.actions = READ
        assert_reads(plugin)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(500, b"busy"), UNAVAILABLE),
        (Reply(429, b"busy"), UNAVAILABLE),
        (Reply(200, b"<html>"), UNAUTHENTICATED),
        (Reply(200, b"{}"), UNAUTHENTICATED),
        (Reply(200, b'{"credential": {"access": "CANARYACCESS", "secret": "CANARYSECRET"}}'), UNAUTHENTICATED),
        (
            Reply(
                200,
                b'{"credential": {"access": "CANARYACCESS", "secret": "CANARYSECRET", "securitytoken": "CANARYTOKEN",'
                b' "expires_at": "tomorrow"}}',
            ),
            UNAUTHENTICATED,
        ),
        (Reply(403, b"no"), UNAUTHENTICATED),
        (Reply(None), UNAUTHENTICATED),
    ],
    ids=range(8),
)
def test_metadata_service_that_fails_is_told(ecs: Ecs, reply: Reply, code: str) -> None:
    ecs.huawei.fail(reply, at=METADATA)
    with ecs.plugin() as plugin:
        error = refusal(plugin)
        assert error.code == code
        assert "metadata service" in error.message
        assert b"CANARY" not in plugin.stderr + error.message.encode()
        ecs.huawei.recover()
        assert_reads(plugin)


def test_without_a_metadata_service_it_is_said_what_is_missing() -> None:
    """No machine of Huawei Cloud's: nothing answers at the address."""
    with (
        OwnNetwork() as network,
        ConnectProxy(listener=network.listen("127.0.0.1")) as proxy,
        HuaweiCloud(proxy=proxy) as huawei,
        Plugin(network.inside(plugin_argv("dso-provider-huawei", "source")), huawei.environment()) as plugin,
    ):
        plugin.initialize(agency(huawei), timeout=5)
        error = refusal(plugin)
    assert error.code in (UNAUTHENTICATED, UNAVAILABLE)
    assert "agency" in error.message
    assert ADDRESS in error.message


# Renewal ahead of time: with a clock of the test's own


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[HuaweiCloud]:
    """Huawei Cloud, with the metadata service on loopback for a provider in this process."""
    with HuaweiCloud() as huawei, HttpProxy("") as service:
        service.reply = lambda seen: huawei.answer(seen._replace(headers={**seen.headers, "host": ADDRESS}))
        accessor = "dso.providers.huawei_credentials.MetadataAccessor"
        monkeypatch.setattr(f"{accessor}._METADATA_ENDPOINT", service.address)
        huawei.put(NAME, "value")
        yield huawei


class Clock:
    """`time.time`, some seconds ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the provider takes for the time."""
    found = Clock()
    monkeypatch.setattr("dso.providers.huawei_credentials.time", found)
    return found


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somewhere whose clock is not UTC, where the SDK's own reckoning of the expiry goes wrong."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("left", "renewed"), [(700, False), (500, True), (-10, True)])
def test_keys_are_renewed_before_they_expire(machine: HuaweiCloud, clock: Clock, left: int, renewed: bool) -> None:
    machine.metadata.seconds = 3600
    with provider(agency(machine), machine.environment()) as found:
        assert read(found, NAME) == b"value"
        clock.ahead, machine.metadata.seconds = 3600 - left, 7200
        assert read(found, NAME) == b"value"
        assert read(found, NAME) == b"value"
    assert len(machine.metadata.issued) == (2 if renewed else 1)


def test_keys_that_are_still_good_are_used_while_no_others_can_be_had(
    machine: HuaweiCloud, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    machine.metadata.seconds = 3600
    with provider(agency(machine), machine.environment()) as found:
        assert read(found, NAME) == b"value"
        clock.ahead, machine.metadata.seconds = 3500, 7200
        machine.fail(Reply(500, b"busy"), at=METADATA)
        assert read(found, NAME) == b"value"
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        clock.ahead = 3601
        assert fault(lambda: found.get(NAME, None)).code == UNAVAILABLE
        machine.recover()
        assert read(found, NAME) == b"value"
    assert not [part for keys in machine.metadata.issued for part in keys if part in caplog.text]
