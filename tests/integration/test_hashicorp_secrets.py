"""Secrets in a real HashiCorp Vault: engines, versions, policies, and why one cannot be had."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST, NOT_FOUND, PERMISSION_DENIED
from tests.support.hashicorp import fault, provider, read, settings
from tests.support.http_proxy import HttpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.providers.hashicorp import HashicorpProvider
    from tests.support.hashicorp import HashicorpServer


@pytest.fixture
def path() -> str:
    return f"test/{secrets.token_hex(6)}"


@pytest.fixture
def opened(hashicorp: HashicorpServer) -> Iterator[HashicorpProvider]:
    with provider(settings(hashicorp.http, hashicorp.root_token)) as found:
        yield found


@pytest.fixture(scope="module")
def kv1(hashicorp: HashicorpServer) -> str:
    hashicorp.mount("old/kv", version=1)
    return "old/kv"


# Versions


def test_version_is_its_number_and_has_its_time(hashicorp: HashicorpServer, opened: HashicorpProvider, path: str):
    hashicorp.put(path, {"v": "one"})
    hashicorp.put(path, {"v": "two"})
    found = opened.get(path, None)
    assert found.version == "2"
    assert opened.get(path, "1").version == "1"
    shown = hashicorp.call("GET", f"secret/metadata/{path}")["data"]["versions"]["2"]["created_time"]
    assert found.created_at is not None
    assert datetime.fromtimestamp(found.created_at, UTC).isoformat()[:19] == shown[:19]


def test_deleted_version_says_how_to_bring_it_back(hashicorp: HashicorpServer, opened: HashicorpProvider, path: str):
    hashicorp.put(path, {"v": "one"})
    hashicorp.put(path, {"v": "two"})
    hashicorp.delete(path, 2)
    error = fault(lambda: opened.get(path, None))
    assert error.code == NOT_FOUND
    assert f"{path}: version 2 is deleted" in error.message
    assert f"vault kv undelete -mount=secret -versions=2 {path}" in error.message
    assert read(opened, path, "1") == {"v": "one"}


def test_destroyed_version_is_told_from_a_deleted_one(hashicorp: HashicorpServer, opened: HashicorpProvider, path: str):
    hashicorp.put(path, {"v": "one"})
    hashicorp.delete(path, 1, destroy=True)
    for call in (lambda: opened.get(path, None), lambda: opened.get(path, "1")):
        error = fault(call)
        assert error.code == NOT_FOUND
        assert f"{path}: version 1 is destroyed" in error.message
        assert "undelete" not in error.message


def test_deletion_that_lies_ahead_hides_nothing(hashicorp: HashicorpServer, opened: HashicorpProvider, path: str):
    hashicorp.call("POST", f"secret/metadata/{path}", {"delete_version_after": "1h"})
    hashicorp.put(path, {"v": "one"})
    assert read(opened, path) == {"v": "one"}


@pytest.mark.parametrize("version", ["0", "-1", "1.0", "latest", "1&list=true", "\uff19", "1" * 20])
def test_version_that_is_no_number_is_refused(opened: HashicorpProvider, path: str, version: str):
    error = fault(lambda: opened.get(path, version))
    assert error.code == INVALID_REQUEST


def test_secret_without_fields_is_an_empty_object(hashicorp: HashicorpServer, opened: HashicorpProvider, path: str):
    hashicorp.put(path, {})
    assert read(opened, path) == {}


@pytest.mark.parametrize("name", ["with space", "ümläut", "a%2Fb", "a#b", "a+b", "a&b=c", "a;b"])
def test_names_that_a_url_cannot_hold_are_read_as_they_are(
    hashicorp: HashicorpServer, opened: HashicorpProvider, path: str, name: str
):
    from urllib.parse import quote

    hashicorp.put(f"{path}/{quote(name)}", {"v": name})
    assert read(opened, f"{path}/{name}") == {"v": name}


# KV 1


def test_kv_1_keeps_every_digit(hashicorp: HashicorpServer, kv1: str):
    hashicorp.put1("db", b'{"big":12345678901234567890,"port":1.10,"deep":{"list":[1.50,-0.0]}}', mount=kv1)
    with provider(settings(hashicorp.http, hashicorp.root_token, mount=kv1, kv_version=1)) as opened:
        opened.check()
        found = opened.get("db", None)
    assert found.is_fields
    assert (found.version, found.created_at) == ("", None)
    raw = found.content.reveal()
    for literal in (b"12345678901234567890", b"1.10", b"1.50", b"-0.0"):
        assert literal in raw


def test_kv_1_has_no_versions_to_pin(hashicorp: HashicorpServer, kv1: str):
    with provider(settings(hashicorp.http, hashicorp.root_token, mount=kv1, kv_version=1)) as opened:
        error = fault(lambda: opened.get("db", "1"))
    assert error.code == INVALID_REQUEST
    assert "leave out the version" in error.message


def test_missing_secret_of_kv_1_is_not_found(hashicorp: HashicorpServer, kv1: str):
    with provider(settings(hashicorp.http, hashicorp.root_token, mount=kv1, kv_version=1)) as opened:
        assert fault(lambda: opened.get("absent", None)).code == NOT_FOUND


def test_kv_1_configured_as_2_is_told_what_to_set(hashicorp: HashicorpServer, kv1: str):
    hashicorp.put1("here", {"v": "x"}, mount=kv1)
    with provider(settings(hashicorp.http, hashicorp.root_token, mount=kv1)) as opened:
        for call in (lambda: opened.get("here", None), opened.check):
            error = fault(call)
            assert error.code == INVALID_CONFIG
            assert "set kv_version: 1" in error.message


def test_kv_2_configured_as_1_is_told_what_to_set(hashicorp: HashicorpServer, path: str):
    hashicorp.put(path, {"v": "x"})
    with provider(settings(hashicorp.http, hashicorp.root_token, kv_version=1)) as opened:
        for call in (lambda: opened.get(path, None), opened.check):
            error = fault(call)
            assert error.code == INVALID_CONFIG
            assert "set kv_version: 2" in error.message


def test_secret_of_kv_1_that_looks_like_one_of_kv_2_is_no_wrong_value(hashicorp: HashicorpServer, kv1: str):
    hashicorp.put1("data/trap", {"data": "not the secret", "metadata": "x"}, mount=kv1)
    with provider(settings(hashicorp.http, hashicorp.root_token, mount=kv1)) as opened:
        assert fault(lambda: opened.get("trap", None)).code == INVALID_CONFIG


# Mounts and namespaces


def test_mount_that_is_not_there_is_named(hashicorp: HashicorpServer, path: str):
    with provider(settings(hashicorp.http, hashicorp.root_token, mount="nowhere")) as opened:
        error = fault(lambda: opened.get(path, None))
        assert error.code == INVALID_CONFIG
        assert "nothing mounted at nowhere/" in error.message
        assert "nowhere" in fault(opened.check).message


def test_mount_that_is_no_kv_engine_is_named(hashicorp: HashicorpServer):
    with provider(settings(hashicorp.http, hashicorp.root_token, mount="cubbyhole")) as opened:
        for call in (opened.check, lambda: opened.get("x", None)):
            error = fault(call)
            assert error.code == INVALID_CONFIG
            assert "cubbyhole" in error.message
            assert "no KV" in error.message


def test_path_with_the_mount_in_it_gets_a_hint(opened: HashicorpProvider):
    assert "without secret/" in fault(lambda: opened.get("secret/prod/db", None)).message
    assert "without data/" in fault(lambda: opened.get("data/prod/db", None)).message


def test_namespace_goes_with_every_request_that_concerns_one(hashicorp: HashicorpServer):
    role = hashicorp.approle("namespaced", hashicorp.policy("namespaced", "secret/data/*"))
    auth = {"method": "approle", **role._asdict()}
    with HttpProxy(hashicorp.http) as proxy:
        with provider({"address": proxy.address, "namespace": "/team/a/", "auth": auth}) as opened:
            fault(lambda: opened.get("absent", None))
            opened.check()
        assert len(proxy.seen) > 3
        for seen in proxy.seen:
            wanted = None if seen.path.startswith("/v1/sys/health") else "team/a"
            assert seen.headers.get("x-vault-namespace") == wanted, str(seen)
            assert seen.headers["x-vault-request"] == "true"


def test_no_namespace_sends_no_header(hashicorp: HashicorpServer):
    with HttpProxy(hashicorp.http) as proxy:
        with provider(settings(proxy.address, hashicorp.root_token)) as opened:
            opened.check()
        assert not any("x-vault-namespace" in seen.headers for seen in proxy.seen)


# Policies


def test_denied_names_the_path_that_a_policy_has_to_grant(hashicorp: HashicorpServer, path: str):
    hashicorp.put(path, {"v": "x"})
    token = hashicorp.token(hashicorp.policy("elsewhere", "secret/data/other"))
    with provider(settings(hashicorp.http, token)) as opened:
        error = fault(lambda: opened.get(path, None))
        assert error.code == PERMISSION_DENIED
        assert f"grant read on secret/data/{path}" in error.message
        opened.check()


def test_policy_without_data_in_its_path_is_recognised(hashicorp: HashicorpServer, path: str):
    hashicorp.put(path, {"v": "x"})
    token = hashicorp.token(hashicorp.policy("forgotten", f"secret/{path}"))
    with provider(settings(hashicorp.http, token)) as opened:
        error = fault(lambda: opened.get(path, None))
    assert error.code == PERMISSION_DENIED
    assert f"grant read on secret/data/{path} (one grants it on secret/{path}, which is what KV version 1 has)" in (
        error.message
    )


def test_check_finds_a_token_that_may_read_nothing_in_the_mount(hashicorp: HashicorpServer):
    with provider(settings(hashicorp.http, hashicorp.token("default"))) as opened:
        error = fault(opened.check)
    assert error.code == PERMISSION_DENIED
    assert "may read nothing in mount secret" in error.message
