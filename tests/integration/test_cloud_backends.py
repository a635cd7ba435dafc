"""The main job of Cloud Mode, with nothing but frozen binaries: HashiCorp Vault and AWS, variables and files."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from dso.errors import ProviderFailedError, SecretNotFoundError
from tests.support import aws, hashicorp
from tests.support.canary import Canary, assert_absent
from tests.support.cloud import CloudAgent
from tests.support.engine import Engine, Images
from tests.support.process import ROOT, run
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from tests.support.private_engine import PrivateEngine

SECRETS = """
secrets:
  - name: prod/mail
    provider: aws-test
    path: mail
    mappings: {token: MAIL_TOKEN, user: MAIL_USER}
    targets: {services: [api]}
"""
STACK = """
services:
  api:
    image: dso-test/busybox
    command: sleep 1000
    stop_signal: SIGKILL
    network_mode: none
    user: "1000:1000"
    environment:
      DB_PASSWORD: dso://vault-test/shop/db#password
      DB_URL: "postgres://app:{{dso://vault-test/shop/db#password}}@db:{{dso://vault-test/shop/db#port}}/shop"
      TLS_KEY: dsofile://vault-test/shop/tls#key
      LICENCE: dsofile://aws-test/licence
"""


@pytest.fixture(scope="module")
def engine(private):
    """The same for projects."""
    return Engine({"DOCKER_HOST": private.host})


@pytest.fixture(scope="module")
def images(engine):
    """Those of that Engine."""
    return Images()


class Backends:
    """Both servers with one canary in every secret, and the agent that has a provider for each."""

    def __init__(self, vault: hashicorp.HashicorpServer, moto: aws.Moto, engine: PrivateEngine) -> None:
        self.canary = Canary.new()
        self.vault, self.moto = vault, moto
        value = self.canary.text
        vault.put("shop/db", {"password": value, "port": 5432})
        vault.put("shop/tls", {"key": "key-" + value, "certificate": "public"})
        moto.put("mail", json.dumps({"token": "mail-" + value, "user": "shop"}))
        moto.put("licence", b"\x00\xff" + self.canary.value)
        self.agent = CloudAgent({}, engine=engine, variant="frozen")
        for name in ("vault", "aws"):
            source = os.path.join(ROOT, "dist", "bin", f"dso-provider-{name}")
            shutil.copyfile(source, os.path.join(self.agent.plugin_dir, f"dso-provider-{name}"))
            os.chmod(os.path.join(self.agent.plugin_dir, f"dso-provider-{name}"), 0o755)
        token = vault.token(vault.policy("shop", "secret/data/shop/*"), ttl="1h")
        soon = {"timeout": "5s", "cache_ttl": "1s"}
        providers = {
            "vault-test": {"type": "vault", **soon, **hashicorp.settings(vault.http, token)},
            "aws-test": {"type": "aws", **aws.settings(moto)},
        }
        self.agent.write_config(f"providers: {json.dumps(providers)}\n{SECRETS}")


@pytest.fixture
def backends(private, home):
    with hashicorp.HashicorpServer() as vault, aws.Moto() as moto:
        made = Backends(vault, moto, private)
        with made.agent:
            made.agent.serve(home)
            yield made


@pytest.fixture
def stack(backends, project):
    project.compose_yaml(STACK)
    return project


def test_secrets_of_both_backends_reach_the_container_and_no_disk(backends, stack, engine):
    canary, value = backends.canary, backends.canary.text
    started = stack.dso("up", "-d", timeout=180)
    variables = dict(line.split("=", 1) for line in stack.inspect("api")["Config"]["Env"])
    assert variables["DB_PASSWORD"] == value
    assert variables["DB_URL"] == f"postgres://app:{value}@db:5432/shop"
    assert (variables["MAIL_TOKEN"], variables["MAIL_USER"]) == ("mail-" + value, "shop")
    assert stack.exec("api", "cat", variables["TLS_KEY"]).out == "key-" + value
    assert stack.exec("api", "cat", variables["LICENCE"]).stdout == b"\x00\xff" + canary.value
    assert "MAIL_TOKEN" in started.err, "it names what `docker inspect` shows"
    assert not canary.find(started.stdout + started.stderr + backends.agent.log.encode())

    # what only files hold is on no disk and in no description of Docker's
    stack.dso("down", timeout=180)
    stack.compose_yaml("\n".join(line for line in STACK.splitlines() if "DB_" not in line))
    only_files = Canary.new()
    backends.vault.put("shop/tls", {"key": only_files.text, "certificate": "public"})
    stack.dso("sync")
    stack.dso("up", "-d", timeout=180)
    assert stack.exec("api", "cat", variables["TLS_KEY"]).out == only_files.text
    assert_absent(only_files, engine=engine, project=stack, places=[backends.agent.directory])
    stack.dso("down", timeout=180)
    stack.assert_nothing_left()
    assert os.listdir(os.path.join(backends.agent.runtime_dir, "volumes")) == []


def test_a_changed_secret_recreates_the_container(backends, stack):
    stack.dso("up", "-d", timeout=180)
    before = stack.container("api")
    stack.dso("up", "-d", timeout=180)
    assert stack.container("api") == before, "nothing changed, so nothing is done"
    backends.vault.put("shop/tls", {"key": "rotated", "certificate": "public"})
    assert "changed" in stack.dso("sync", "vault-test/shop/tls").out
    stack.dso("up", "-d", timeout=180)
    assert stack.container("api") != before
    assert stack.exec("api", "cat", "/run/secrets/dso/vault-test.shop.tls.key").out == "rotated"


def test_everything_that_is_missing_is_in_one_error_and_nothing_starts(backends, stack):
    stack.compose_yaml(STACK.replace("shop/db#password", "shop/nothing").replace("aws-test/licence", "aws-test/gone"))
    refused = stack.dso("up", "-d", check=False)
    assert refused.returncode == SecretNotFoundError.code
    assert "vault-test/shop/nothing" in refused.err
    assert "aws-test/gone" in refused.err
    assert "service api, variable DB_PASSWORD" in refused.err
    assert stack.containers() == []


def stale_warning(stack):
    told = stack.dso("up", "-d", timeout=180).err
    return any("warning" in line and "shop/db" in line for line in told.splitlines())


def test_a_backend_that_is_down_serves_what_is_known_and_says_so(backends, stack, home):
    stack.dso("up", "-d", timeout=180)
    backends.vault.seal()
    backends.agent.request("POST", "/v1/reload")
    wait_until(lambda: stale_warning(stack), "the value to be older than its time", timeout=30)
    state = json.loads(home.run("status", "--format", "json").stdout)
    assert "sealed" in json.dumps(state["agent"]["providers"])
    unknown = stack.dso("fetch", "vault-test/shop/never-read", check=False)
    assert unknown.returncode == ProviderFailedError.code
    assert "vault-test" in unknown.err
    backends.vault.unseal()
    wait_until(lambda: stack.dso("sync", check=False).returncode == 0, "the agent to read Vault again", timeout=60)


def test_check_reaches_every_provider_and_says_which_fails(backends):
    checked = backends.agent.command("--check")
    good = run(checked, env=backends.agent.environment())
    assert "vault-test" in good.out
    assert "aws-test" in good.out
    backends.vault.seal()
    bad = run(checked, env=backends.agent.environment(), check=False)
    assert bad.returncode == ProviderFailedError.code
    assert "sealed" in bad.out + bad.err
