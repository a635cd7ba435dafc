"""Every way to log in to a real HashiCorp Vault, and what becomes of the token."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dso.protocol.codes import PERMISSION_DENIED, UNAUTHENTICATED, UNAVAILABLE
from tests.support.hashicorp import ApiError, fault, provider, read, settings
from tests.support.http_proxy import HttpProxy, Reply
from tests.support.jwt import signed
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.hashicorp import HashicorpServer

LOGIN = "POST /v1/auth/approle/login"


@pytest.fixture(scope="module")
def policy(hashicorp: HashicorpServer) -> str:
    hashicorp.put("auth/secret", {"v": "x"})
    return hashicorp.policy("auth-tests", "secret/data/auth/*")


@pytest.fixture
def proxy(hashicorp: HashicorpServer) -> Iterator[HttpProxy]:
    with HttpProxy(hashicorp.http) as found:
        yield found


def assert_reads(config: dict[str, Any]) -> None:
    with provider(config) as opened:
        opened.check()
        assert read(opened, "auth/secret") == {"v": "x"}


def assert_refused(config: dict[str, Any], *words: str) -> None:
    with provider(config) as opened:
        for call in (lambda: opened.get("auth/secret", None), opened.check):
            error = fault(call)
            assert error.code == UNAUTHENTICATED
            assert [word for word in words if word not in error.message] == []


# The methods


def test_token(hashicorp: HashicorpServer, policy: str):
    assert_reads(settings(hashicorp.http, hashicorp.token(policy)))
    assert_refused(settings(hashicorp.http, "hvs.wrong"), "auth.token", "ended or was revoked")


def test_token_file(hashicorp: HashicorpServer, policy: str, tmp_path: Path):
    file = tmp_path / "token"
    config = {"address": hashicorp.http, "auth": {"method": "token_file", "token_file": str(file)}}
    file.write_text(hashicorp.token(policy) + "\n")
    assert_reads(config)
    file.write_text("hvs.wrong")
    assert_refused(config, "auth.token_file")


def test_approle(hashicorp: HashicorpServer, policy: str, tmp_path: Path):
    role = hashicorp.approle("way", policy, path="machines")
    auth = {"method": "approle", "mount": "machines", "role_id": role.role_id}
    assert_reads({"address": hashicorp.http, "auth": {**auth, "secret_id": role.secret_id}})
    file = tmp_path / "secret-id"
    file.write_text(f"{role.secret_id}\n")
    assert_reads({"address": hashicorp.http, "auth": {**auth, "secret_id_file": str(file)}})
    assert_refused({"address": hashicorp.http, "auth": {**auth, "secret_id": "wrong"}}, "auth/machines")


def test_approle_without_a_secret_id(hashicorp: HashicorpServer, policy: str):
    role = hashicorp.approle("open", policy, bind_secret_id=False, token_bound_cidrs=["127.0.0.1/32"])
    assert_reads({"address": hashicorp.http, "auth": {"method": "approle", "role_id": role.role_id}})


def test_userpass(hashicorp: HashicorpServer, policy: str, tmp_path: Path):
    password = 'p ässwörd "\\ '
    hashicorp.user("robot", password, policy)
    auth = {"method": "userpass", "username": "robot"}
    assert_reads({"address": hashicorp.http, "auth": {**auth, "password": password}})
    file = tmp_path / "password"
    file.write_text(password + "\n")
    assert_reads({"address": hashicorp.http, "auth": {**auth, "password_file": str(file)}})
    assert_refused({"address": hashicorp.http, "auth": {**auth, "password": "wrong"}}, "userpass")


@pytest.mark.parametrize("method", ["kubernetes", "jwt"])
def test_jwt_and_kubernetes(hashicorp: HashicorpServer, policy: str, tmp_path: Path, method: str):
    """A service account's token for the one, any other for the other: the same request to another mount."""
    key = ec.generate_private_key(ec.SECP256R1())
    hashicorp.trust_jwt(method, pem(key), "app", policy)
    claims = {"sub": "system:serviceaccount:shop:app", "aud": "dso", "exp": int(time.time()) + 3600}
    file = tmp_path / "jwt"
    file.write_text(signed(claims, key))
    config = {"address": hashicorp.http, "auth": {"method": method, "role": "app", "jwt_file": str(file)}}
    assert_reads(config)
    if method == "jwt":
        assert_reads({"address": hashicorp.http, "auth": {"method": method, "jwt": signed(claims, key)}})
    file.write_text(signed({**claims, "exp": 1_000_000_000}, key))
    assert_refused(config, method)


def test_jwt_file_is_read_again_at_each_login(hashicorp: HashicorpServer, policy: str, tmp_path: Path):
    key = ec.generate_private_key(ec.SECP256R1())
    hashicorp.trust_jwt("rotated", pem(key), "app", policy)
    claims = {"sub": "app", "aud": "dso", "exp": int(time.time()) + 3600}
    file = tmp_path / "jwt"
    file.write_text(signed({**claims, "exp": 1_000_000_000}, key))
    auth = {"method": "jwt", "mount": "rotated", "jwt_file": str(file)}
    with provider({"address": hashicorp.http, "auth": auth}) as opened:
        assert fault(lambda: opened.get("auth/secret", None)).code == UNAUTHENTICATED
        file.write_text(signed(claims, key))
        assert read(opened, "auth/secret") == {"v": "x"}


def test_method_that_is_not_enabled_says_where_it_was_looked_for(hashicorp: HashicorpServer):
    auth = {"method": "approle", "mount": "nowhere", "role_id": "x", "secret_id": "y"}
    assert_refused({"address": hashicorp.http, "auth": auth}, "auth/nowhere")


# Files that change


def test_token_file_that_changes_is_read_again_before_the_old_token_ends(
    hashicorp: HashicorpServer, policy: str, proxy: HttpProxy, tmp_path: Path
):
    file = tmp_path / "token"
    first, second = hashicorp.token(policy), hashicorp.token(policy)
    file.write_text(first)
    config = {"address": proxy.address, "auth": {"method": "token_file", "token_file": str(file)}}
    with provider(config) as opened:
        read(opened, "auth/secret")
        (tmp_path / "new").write_text(second)
        (tmp_path / "new").rename(file)
        proxy.clear()
        read(opened, "auth/secret")
        reads = [seen for seen in proxy.seen if seen.path.startswith("/v1/secret/")]
        assert [seen.headers["x-vault-token"] for seen in reads] == [second]


def test_token_file_that_is_replaced_just_now_costs_nothing(hashicorp: HashicorpServer, policy: str, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(hashicorp.token(policy))
    config = {"address": hashicorp.http, "auth": {"method": "token_file", "token_file": str(file)}}
    with provider(config) as opened:
        read(opened, "auth/secret")
        file.write_text("")
        assert read(opened, "auth/secret") == {"v": "x"}
        file.unlink()
        assert read(opened, "auth/secret") == {"v": "x"}


def test_token_file_that_comes_later_is_waited_for(hashicorp: HashicorpServer, policy: str, tmp_path: Path):
    file = tmp_path / "token"
    config = {"address": hashicorp.http, "auth": {"method": "token_file", "token_file": str(file)}}
    with provider(config) as opened:
        error = fault(lambda: opened.get("auth/secret", None))
        assert error.code == UNAVAILABLE
        assert str(file) in error.message
        file.write_text(hashicorp.token(policy))
        assert read(opened, "auth/secret") == {"v": "x"}


def test_token_in_a_file_that_is_replaced_after_it_was_revoked(hashicorp: HashicorpServer, policy: str, tmp_path: Path):
    file = tmp_path / "token"
    first = hashicorp.token(policy)
    file.write_text(first)
    config = {"address": hashicorp.http, "auth": {"method": "token_file", "token_file": str(file)}}
    with provider(config) as opened:
        read(opened, "auth/secret")
        hashicorp.revoke(first)
        assert fault(lambda: opened.get("auth/secret", None)).code == UNAUTHENTICATED
        file.write_text(hashicorp.token(policy))
        assert read(opened, "auth/secret") == {"v": "x"}


# Renewal


def test_login_token_is_renewed_before_it_ends_although_nobody_reads(
    hashicorp: HashicorpServer, policy: str, proxy: HttpProxy
):
    role = hashicorp.approle("renewed", policy, token_ttl="6s", token_max_ttl="1h")
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        wait_until(lambda: len(proxy.requests("POST /v1/auth/token/renew-self")) >= 2, "two renewals")
        read(opened, "auth/secret")
        assert len(proxy.requests(LOGIN)) == 1
        tokens = {seen.headers["x-vault-token"] for seen in proxy.seen if "x-vault-token" in seen.headers}
        assert len(tokens) == 1


def test_given_token_is_renewed_before_its_first_use(hashicorp: HashicorpServer, policy: str):
    token = hashicorp.token(policy, period="6s")
    with provider(settings(hashicorp.http, token)) as opened:
        end = time.monotonic() + 9  # a token that is not renewed is gone by then
        wait_until(lambda: time.monotonic() > end, "nine seconds")
        assert read(opened, "auth/secret") == {"v": "x"}


def test_login_is_repeated_when_a_token_cannot_be_renewed_any_longer(
    hashicorp: HashicorpServer, policy: str, proxy: HttpProxy
):
    role = hashicorp.approle("capped", policy, token_ttl="3s", token_max_ttl="5s")
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        wait_until(lambda: len(proxy.requests(LOGIN)) >= 2, "a second login")
        proxy.clear()
        read(opened, "auth/secret")
        assert proxy.requests("GET /v1/auth/token/lookup-self") == []


def test_login_is_repeated_for_a_token_of_the_kind_that_is_never_renewed(
    hashicorp: HashicorpServer, policy: str, proxy: HttpProxy
):
    role = hashicorp.approle("batch", policy, token_type="batch", token_ttl="3s")
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        wait_until(lambda: len(proxy.requests(LOGIN)) >= 2, "a second login")
        assert proxy.requests("POST /v1/auth/token/renew-self") == []
        assert read(opened, "auth/secret") == {"v": "x"}


def test_renewal_that_fails_is_tried_again(hashicorp: HashicorpServer, policy: str, proxy: HttpProxy):
    role = hashicorp.approle("flaky", policy, token_ttl="6s", token_max_ttl="1h")
    failures = iter([Reply(500), Reply(None), Reply(503)])
    proxy.reply = lambda seen: next(failures, None) if seen.path.endswith("/renew-self") else None
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        wait_until(lambda: len(proxy.requests("POST /v1/auth/token/renew-self")) >= 4, "a fourth try")
        assert read(opened, "auth/secret") == {"v": "x"}


# Revocation, and many at once


def test_revoked_login_is_replaced_within_the_request(hashicorp: HashicorpServer, policy: str, proxy: HttpProxy):
    role = hashicorp.approle("revoked", policy)
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        hashicorp.revoke(next(seen.headers["x-vault-token"] for seen in proxy.seen if "x-vault-token" in seen.headers))
        assert read(opened, "auth/secret") == {"v": "x"}
        assert len(proxy.requests(LOGIN)) == 2


def test_fifty_first_requests_share_one_login(hashicorp: HashicorpServer, policy: str, proxy: HttpProxy):
    role = hashicorp.approle("many", policy)
    proxy.delay = 0.05
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        together(50, lambda: read(opened, "auth/secret"))
    assert len(proxy.requests(LOGIN)) == 1


def test_fifty_requests_whose_token_was_revoked_share_one_new_login(
    hashicorp: HashicorpServer, policy: str, proxy: HttpProxy
):
    role = hashicorp.approle("many-revoked", policy)
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        hashicorp.revoke(next(seen.headers["x-vault-token"] for seen in proxy.seen if "x-vault-token" in seen.headers))
        proxy.clear()
        proxy.delay = 0.05
        together(50, lambda: read(opened, "auth/secret"))
    assert len(proxy.requests(LOGIN)) == 1
    assert len(proxy.requests("GET /v1/auth/token/lookup-self")) == 1


def test_sixty_four_readers_go_on_while_their_token_is_revoked_again_and_again(
    hashicorp: HashicorpServer, policy: str, proxy: HttpProxy
):
    role = hashicorp.approle("readers", policy)
    stop = threading.Event()
    done = [0] * 64
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:

        def go_on(number: int) -> None:
            while not stop.is_set():
                assert read(opened, "auth/secret") == {"v": "x"}
                done[number] += 1

        def all_go_on(number_of_logins: int) -> None:
            wait_until(lambda: len(proxy.requests(LOGIN)) == number_of_logins, f"login {number_of_logins}")
            before = list(done)  # of two more reads, the second begins after this moment
            wait_until(lambda: all(now >= was + 2 for now, was in zip(done, before, strict=True)), "two reads of each")

        with ThreadPoolExecutor(64) as threads:
            readers = [threads.submit(go_on, number) for number in range(64)]
            try:
                for logins in (1, 2, 3):
                    all_go_on(logins)
                    hashicorp.revoke(opened._tokens._lease.token)
                all_go_on(4)
            finally:
                stop.set()
            for reader in readers:
                reader.result()
    assert len(proxy.requests(LOGIN)) == 4
    assert len({seen.headers["x-vault-token"] for seen in proxy.seen if seen.path.startswith("/v1/secret/")}) == 4


def test_fifty_requests_share_a_login_that_fails(hashicorp: HashicorpServer, proxy: HttpProxy):
    role = hashicorp.approle("many-wrong")
    auth = {"method": "approle", "role_id": role.role_id, "secret_id": "wrong"}
    proxy.delay = 0.5
    with provider({"address": proxy.address, "auth": auth}) as opened:
        codes = together(50, lambda: fault(lambda: opened.get("auth/secret", None)).code)
    assert codes == [UNAUTHENTICATED] * 50
    assert len(proxy.requests(LOGIN)) < 5


def test_fifty_that_are_denied_cost_no_login(hashicorp: HashicorpServer, policy: str, proxy: HttpProxy):
    role = hashicorp.approle("many-denied", policy)
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        proxy.clear()
        codes = together(50, lambda: fault(lambda: opened.get("elsewhere", None)).code)
        assert codes == [PERMISSION_DENIED] * 50
        assert proxy.requests(LOGIN) == []


def test_login_that_hangs_holds_nobody_beyond_the_time_limit(hashicorp: HashicorpServer, proxy: HttpProxy):
    role = hashicorp.approle("hangs")
    stop = threading.Event()
    proxy.reply = lambda _seen: Reply(None) if stop.wait(30) else None
    try:
        with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}, timeout=2) as opened:
            errors = together(10, lambda: fault(lambda: opened.get("auth/secret", None)))
    finally:
        stop.set()
    assert {error.code for error in errors} == {UNAVAILABLE}
    assert len(proxy.requests(LOGIN)) < 5


# The end


def test_login_token_is_given_back_in_the_end(hashicorp: HashicorpServer, policy: str, proxy: HttpProxy):
    role = hashicorp.approle("given-back", policy)
    with provider({"address": proxy.address, "auth": {"method": "approle", **role._asdict()}}) as opened:
        read(opened, "auth/secret")
        token = next(seen.headers["x-vault-token"] for seen in proxy.seen if "x-vault-token" in seen.headers)
        assert hashicorp.lookup(token)["path"] == "auth/approle/login"
    with pytest.raises(ApiError):
        hashicorp.lookup(token)


def test_given_token_is_left_alone_in_the_end(hashicorp: HashicorpServer, policy: str):
    token = hashicorp.token(policy)
    with provider(settings(hashicorp.http, token)) as opened:
        read(opened, "auth/secret")
    assert hashicorp.lookup(token)["policies"]


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Its public half."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def together(number: int, call: Any) -> list[Any]:
    """Call from so many threads at once."""
    start = threading.Barrier(number)

    def one(_number: int) -> Any:
        start.wait(30)
        return call()

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(one, range(number)))
