"""What hvac sends for each of our calls, and with which token; the connections are faked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import UNAVAILABLE
from dso.protocol.provider import ProviderError
from dso.providers.deadline import Deadline
from dso.providers.hashicorp_client import connect
from dso.providers.hashicorp_config import HashicorpConfig
from dso.providers.hashicorp_http import Answer
from dso.providers.hashicorp_kv import ask, wanted
from dso.providers.hashicorp_login import login_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TOKEN = {"method": "token", "token": "given"}


class Sent:
    """A transport that writes down what it is given, and answers the same to everything."""

    def __init__(self, answer: Answer | ProviderError | None = None) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.deadlines: list[Deadline] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self._answer = answer or Answer(200, {}, b'{"auth":{"client_token":"new"}}')

    @property
    def headers(self) -> list[dict[str, str]]:
        return [headers for _, headers in self.seen]

    def request(
        self, method: str, path: str, deadline: Deadline, *, headers: Mapping[str, str], body: Any = None
    ) -> Answer:
        self.requests.append((method, path, body))
        self.deadlines.append(deadline)
        self.seen.append((path, dict(headers)))
        if isinstance(self._answer, ProviderError):
            raise self._answer
        return self._answer


def configured(auth: Mapping[str, str] | None = None, **settings: Any) -> HashicorpConfig:
    return HashicorpConfig.read("v", {"address": "https://v", "auth": auth or TOKEN, **settings})


def client(transport: Any, token: str = "", config: HashicorpConfig | None = None, **more: Any) -> Any:
    return connect(config or configured(), transport, Deadline(10), token, **more)


# What is asked for


@pytest.mark.parametrize(
    ("call", "request_sent"),
    [
        (lambda api: api.auth.token.lookup_self(), ("GET", "auth/token/lookup-self", None)),
        (lambda api: api.auth.token.renew_self(), ("POST", "auth/token/renew-self", {})),
        (lambda api: api.auth.token.revoke_self(), ("POST", "auth/token/revoke-self", None)),
        (lambda api: api.read("sys/internal/ui/mounts/x"), ("GET", "sys/internal/ui/mounts/x", None)),
        (lambda api: api.sys.get_capabilities(["a/b"]), ("POST", "sys/capabilities-self", {"paths": ["a/b"]})),
        (
            lambda api: api.sys.read_health_status(standby_ok=True, performance_standby_code=200, method="GET"),
            ("GET", "sys/health?standbyok=True&performancestandbycode=200", None),
        ),
    ],
)
def test_calls_about_the_token_and_the_server(call: Callable[[Any], object], request_sent: tuple[str, str, Any]):
    transport = Sent()
    call(client(transport, "t"))
    assert transport.requests == [request_sent]


@pytest.mark.parametrize(
    ("kv_version", "path", "version", "sent"),
    [
        (2, "prod/db", None, "teams/a%20b/data/prod/db"),
        (2, "/prod/db/", "7", "teams/a%20b/data/prod/db?version=7"),
        (2, "ü?#%2F{0}", None, "teams/a%20b/data/%C3%BC%3F%23%252F%7B0%7D"),
        (1, "prod/db", None, "teams/a%20b/prod/db"),
    ],
)
def test_secret_is_asked_for_where_its_engine_has_it(kv_version: int, path: str, version: str | None, sent: str):
    config = configured(mount="teams/a b", kv_version=kv_version)
    transport = Sent()
    ask(client(transport, "t", config), config, wanted(config, path, version))
    assert transport.requests == [("GET", sent, None)]


@pytest.mark.parametrize(
    ("auth", "path", "body"),
    [
        ({"method": "approle", "role_id": "r"}, "auth/approle/login", {"role_id": "r", "secret_id": None}),
        (
            {"method": "approle", "role_id": "r", "secret_id": "s"},
            "auth/approle/login",
            {"role_id": "r", "secret_id": "s"},
        ),
        (
            {"method": "userpass", "username": "a/b ü", "password": "p"},
            "auth/userpass/login/a%2Fb%20%C3%BC",
            {"password": "p"},
        ),
        ({"method": "jwt", "role": "r", "jwt": "j"}, "auth/jwt/login", {"role": "r", "jwt": "j"}),
    ],
)
@pytest.mark.parametrize("mount", ["", "mine/a b"])
def test_login_is_sent_to_its_mount(auth: dict[str, str], mount: str, path: str, body: dict[str, str]):
    config = configured({**auth, **({"mount": mount} if mount else {})})
    transport: Any = Sent()
    assert login_for(config, transport).fetch(Deadline(10)).token == "new"
    path = path.replace(auth["method"], "mine/a%20b", 1) if mount else path
    assert transport.requests == [("POST", path, body)]


def test_login_of_kubernetes_sends_the_service_accounts_token(tmp_path: Path):
    (tmp_path / "jwt").write_text("j\n")
    auth = {"method": "kubernetes", "role": "r", "jwt_file": str(tmp_path / "jwt")}
    transport: Any = Sent()
    assert login_for(configured(auth), transport).fetch(Deadline(10)).token == "new"
    assert transport.requests == [("POST", "auth/kubernetes/login", {"role": "r", "jwt": "j"})]


# Headers


def test_token_and_namespace_go_along_where_there_are_any():
    transport = Sent()
    config = configured(namespace="team/a")
    client(transport, "t", config).auth.token.lookup_self()
    client(transport, "t", config, in_namespace=False).auth.token.lookup_self()
    client(transport, "t").auth.token.lookup_self()
    assert transport.headers == [
        {"X-Vault-Request": "true", "X-Vault-Token": "t", "X-Vault-Namespace": "team/a"},
        {"X-Vault-Request": "true", "X-Vault-Token": "t"},
        {"X-Vault-Request": "true", "X-Vault-Token": "t"},
    ]


def test_token_and_settings_of_somebody_else_are_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Those of the `vault` command, which hvac would take."""
    (tmp_path / ".vault-token").write_text("theirs")
    monkeypatch.setenv("HOME", str(tmp_path))
    transport = Sent()
    client(transport).sys.read_health_status(method="GET")
    monkeypatch.setenv("VAULT_TOKEN", "theirs")
    monkeypatch.setenv("VAULT_NAMESPACE", "theirs")
    client(transport).sys.read_health_status(method="GET")
    assert transport.headers == [{"X-Vault-Request": "true"}] * 2


def test_login_sends_no_token_and_leaves_none_in_the_client():
    transport: Any = Sent()
    api = client(transport)
    answer = api.auth.approle.login("r", "s", use_token=False)
    assert api.adapter.get_login_token(answer) == "new"
    assert api.token == ""
    assert transport.headers == [{"X-Vault-Request": "true"}]


# What comes back


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 429, 500, 503])
def test_answer_is_handed_on_whatever_its_status(status: int):
    answer = Answer(status, {}, b'{"errors":["canary"],"data":{"metadata":{"deletion_time":"x"}}}')
    transport = Sent(answer)
    assert client(transport, "t").auth.token.lookup_self() is answer
    assert ask(client(transport, "t"), configured(), wanted(configured(), "db", None)) is answer


def test_numbers_keep_their_digits_through_hvac():
    answer = client(Sent(Answer(200, {}, b'{"data":{"a":1.10}}')), "t").read("secret/x")
    assert str(answer.member("data", "a")) == "1.10"


def test_failure_of_the_connection_comes_through_as_it_is():
    error = ProviderError(UNAVAILABLE, "nobody there")
    with pytest.raises(ProviderError) as caught:
        client(Sent(error), "t").auth.token.lookup_self()
    assert caught.value is error


def test_each_client_has_its_own_deadline():
    transport: Any = Sent()
    near, far = Deadline(1), Deadline(100)
    for deadline in (near, far, near):
        connect(configured(), transport, deadline, "t").auth.token.lookup_self()
    assert transport.deadlines == [near, far, near]


# Threads


def test_sixty_four_threads_send_each_its_own_token():
    transport: Any = Sent()
    all_have_one = threading.Barrier(64, timeout=30)

    def call(number: int) -> None:
        for turn in range(5):
            mine = client(transport, f"token-{number}-{turn}")
            all_have_one.wait()
            mine.read(f"of-{number}-{turn}")

    with ThreadPoolExecutor(64) as threads:
        list(threads.map(call, range(64)))
    seen = {(path, headers["X-Vault-Token"]) for path, headers in transport.seen}
    assert seen == {(f"of-{number}-{turn}", f"token-{number}-{turn}") for number in range(64) for turn in range(5)}
