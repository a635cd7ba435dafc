"""A HashiCorp Vault server (tests/servers/hashicorp), what tests do with it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest

from tests.support.process import ROOT, environment, reap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dso.protocol.provider import ProviderError
    from dso.providers.hashicorp import HashicorpProvider

SCRIPT = os.path.join(ROOT, "build", "machine", "backends.sh")
# A skip for this reason is no failure, except with CI=true (tests/conftest.py).
NOT_TO_BE_HAD = "the HashiCorp Vault server cannot be had on this machine: "


@cache
def server_program() -> str:
    """The server's program, built first where it is missing; the test is skipped if that cannot be done."""
    made = subprocess.run([SCRIPT], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800)
    path = made.stdout.strip()
    if made.returncode or not path:
        reason = (made.stderr.strip().splitlines() or [f"exit code {made.returncode}"])[-1]
        if made.returncode or os.environ.get("CI") == "true":
            pytest.fail(NOT_TO_BE_HAD + reason, pytrace=False)
        pytest.skip(NOT_TO_BE_HAD + reason)
    return path


class ApiError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


class Role(NamedTuple):
    """What AppRole wants for a login."""

    role_id: str
    secret_id: str


class HashicorpServer:
    """A running server, unsealed, with KV 2 at `secret/`; use it in a `with`.

    Attributes:
        http, https, standby: addresses; the latter two are empty unless asked for.
        root_token: which may do anything.
    """

    def __init__(self, *, tls: str = "", standby: bool = False) -> None:
        """`tls`: a directory of `tests.support.certificates`."""
        argv = [server_program(), *(["-tls", tls] if tls else []), *(["-standby"] if standby else [])]
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment()
            )
            assert self._process.stdout is not None
            ready = json.loads(self._process.stdout.readline() or "{}")
            if not ready:
                reap(self._process)
                raise AssertionError(f"{argv[0]} did not start: {os.pread(errors.fileno(), 10_000, 0).decode()}")
        self.http: str = ready["http"]
        self.https: str = ready.get("https", "")
        self.standby: str = ready.get("standby", "")
        self.root_token: str = ready["root_token"]
        self._unseal_key: str = ready["unseal_key"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            reap(self._process)

    def raw(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> bytes:
        """A call of the API; the body may be JSON already. ApiError."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"X-Vault-Token": token or self.root_token}
        request = urllib.request.Request(f"{self.http}/v1/{path}", content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode()) from None

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> dict[str, Any]:
        """The same, with the answer taken apart."""
        found = json.loads(self.raw(method, path, body, token=token) or b"{}")
        assert isinstance(found, dict)
        return found

    # Secrets

    def put(self, path: str, fields: Mapping[str, Any] | bytes, *, mount: str = "secret") -> int:
        """Store a secret in KV 2, or a new version of it; its number."""
        data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return int(self.call("POST", f"{mount}/data/{path}", b'{"data":%s}' % data)["data"]["version"])

    def put1(self, path: str, fields: Mapping[str, Any] | bytes, *, mount: str) -> None:
        """Store a secret in KV 1."""
        self.raw("POST", f"{mount}/{path}", fields)

    def delete(self, path: str, *versions: int, destroy: bool = False) -> None:
        """Delete versions, or destroy them."""
        self.call("POST", f"secret/{'destroy' if destroy else 'delete'}/{path}", {"versions": versions})

    def mount(self, path: str, *, version: int) -> None:
        """Mount a KV engine."""
        self.call("POST", f"sys/mounts/{path}", {"type": "kv", "options": {"version": str(version)}})

    # Who may read them

    def policy(self, name: str, *paths: str, capabilities: Sequence[str] = ("read",)) -> str:
        """A policy that grants these paths."""
        rules = {path: {"capabilities": list(capabilities)} for path in paths}
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": json.dumps({"path": rules})})
        return name

    def token(self, *policies: str, **parameters: Any) -> str:
        """A new token; parameters as `ttl`, `period`, `explicit_max_ttl`, `renewable`, `no_default_policy`."""
        body = {"policies": policies, "no_parent": True, **parameters}
        return str(self.call("POST", "auth/token/create", body)["auth"]["client_token"])

    def revoke(self, token: str) -> None:
        """End a token."""
        self.call("POST", "auth/token/revoke", {"token": token})

    def lookup(self, token: str) -> dict[str, Any]:
        """What the server knows of a token; ApiError if it is none."""
        found = self.call("POST", "auth/token/lookup", {"token": token})["data"]
        assert isinstance(found, dict)
        return found

    def enable(self, method: str, path: str | None = None) -> str:
        """Enable an auth method, unless it is; where."""
        path = path or method
        if f"{path}/" not in self.call("GET", "sys/auth"):
            self.call("POST", f"sys/auth/{path}", {"type": method})
        return path

    def approle(self, name: str, *policies: str, path: str | None = None, **parameters: Any) -> Role:
        """A role of AppRole; parameters as `token_ttl`, `token_max_ttl`, `secret_id_ttl`, `secret_id_num_uses`."""
        where = f"auth/{self.enable('approle', path)}/role/{name}"
        self.call("POST", where, {"token_policies": policies, **parameters})
        role_id = self.call("GET", f"{where}/role-id")["data"]["role_id"]
        secret_id = self.secret_id(name, path=path) if parameters.get("bind_secret_id", True) else ""
        return Role(role_id, secret_id)

    def secret_id(self, role: str, *, path: str | None = None) -> str:
        """One more secret id of a role."""
        return str(self.call("POST", f"auth/{path or 'approle'}/role/{role}/secret-id", {})["data"]["secret_id"])

    def user(self, name: str, password: str, *policies: str) -> None:
        """A user for userpass."""
        self.call("POST", f"auth/{self.enable('userpass')}/users/{name}", {"password": password, "policies": policies})

    def trust_jwt(self, path: str, public_key: str, role: str, *policies: str) -> None:
        """Accept tokens signed with a key at auth/PATH, for the audience `dso`; a Kubernetes login looks the same."""
        self.enable("jwt", path)
        self.call("POST", f"auth/{path}/config", {"jwt_validation_pubkeys": [public_key], "default_role": role})
        body = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["dso"], "token_policies": policies}
        self.call("POST", f"auth/{path}/role/{role}", body)

    # Faults

    def seal(self) -> None:
        """Seal it."""
        self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal it."""
        self.call("PUT", "sys/unseal", {"key": self._unseal_key})

    def limit(self, rate: float) -> None:
        """Answer so many requests a minute for secrets, and say how long to wait then (servers may leave that out)."""
        self.call("POST", "sys/quotas/config", {"enable_rate_limit_response_headers": True})
        body = {"path": "secret/", "rate": rate, "interval": "60s"}
        self.call("POST", "sys/quotas/rate-limit/tests", body)


def settings(address: str, token: str, **more: Any) -> dict[str, Any]:
    """The `config` of a provider with a token."""
    return {"address": address, "auth": {"method": "token", "token": token}, **more}


@contextmanager
def provider(config: Mapping[str, Any], *, timeout: float = 20) -> Iterator[HashicorpProvider]:
    """The provider in this process, as a plugin has it."""
    from dso.providers.hashicorp import HashicorpProvider

    opened = HashicorpProvider.open("tested", config, timeout)
    try:
        yield opened
    finally:
        opened.close()


def read(opened: HashicorpProvider, path: str, version: str | None = None) -> Any:
    """A secret's fields."""
    return json.loads(opened.get(path, version).content.reveal())


def fault(call: Callable[[], object]) -> ProviderError:
    """The error that a call must end with."""
    from dso.protocol.provider import ProviderError

    with pytest.raises(ProviderError) as caught:
        call()
    assert "tested" in caught.value.message, "which provider?"
    return caught.value
