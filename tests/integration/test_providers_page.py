"""The examples of docs/providers.md, as they stand there: `--check`, `up`, and the secrets in the container.

Nothing of their dso.yaml and compose.yaml is changed; the test adds an `agent:` section with sockets of its own. Of
agent.env the names count, with credentials of the tests' servers for values, which are reached under their production
host names because of what `FourClouds.environment` adds (a proxy, and whom to trust).
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, NamedTuple

import pytest

from dso.config import dotenv
from tests.support import aws
from tests.support.canary import Canary
from tests.support.cloud import CloudAgent
from tests.support.engine import Engine, Images
from tests.support.four_clouds import TYPES, FourClouds
from tests.support.process import ROOT, run
from tests.support.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.home import DsoHome
    from tests.support.private_engine import PrivateEngine

pytestmark = pytest.mark.timeout(600)

with open(f"{ROOT}/docs/providers.md", encoding="utf-8") as _file:
    PAGE = _file.read()
HEADINGS = {
    "vault": "HashiCorp Vault",
    "aws": "AWS Secrets Manager",
    "azure": "Azure Key Vault",
    "huawei": "Huawei Cloud CSMS",
}


class Example(NamedTuple):
    """What stands below a heading: the text, and the three files."""

    text: str
    config: str
    variables: str
    stack: str

    @classmethod
    def of(cls, kind: str) -> Example:
        """The one of a type of provider."""
        found = re.search(rf"^### {HEADINGS[kind]}\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE)
        assert found, kind
        return cls(found[1], *(_file_of(found[1], path) for path in FILES))


FILES = ("/etc/dso/dso.yaml", "/etc/dso/agent.env", "compose.yaml")


def _file_of(text: str, path: str) -> str:
    (content,) = re.findall(rf"```\w+\n(# {re.escape(path)}\n.*?)```", text, re.DOTALL)
    return str(content)


@pytest.fixture(scope="module")
def clouds() -> Iterator[FourClouds]:
    with FourClouds() as made:
        yield made


@pytest.fixture(scope="module")
def engine(private: PrivateEngine) -> Engine:
    """With the image that the examples use."""
    private.docker("tag", Images().busybox, "busybox")
    return Engine({"DOCKER_HOST": private.host})


@pytest.fixture
def agent(private: PrivateEngine) -> Iterator[CloudAgent]:
    with CloudAgent({}, engine=private, variant="frozen") as made:
        yield made


@pytest.fixture
def stack(agent: CloudAgent, engine: Engine, home: DsoHome, tmp_path: Path) -> Iterator[Project]:
    """A project that goes before the agent does: an Engine waits 15 seconds for a driver that is gone."""
    home.env.update(engine.env)
    made = Project(str(tmp_path / f"dsotest{secrets.token_hex(4)}"), home, engine)
    yield made
    made.remove()


def credentials(clouds: FourClouds) -> dict[str, str]:
    """A value for every variable that may stand in an agent.env of the page."""
    role = clouds.vault.approle("shop", clouds.vault.policy("shop", "secret/data/shop/*"))
    azure, huawei = clouds.azure.settings()["auth"], clouds.huawei.settings()
    access_key, secret_key = aws.ADMIN
    return {
        "VAULT_ROLE_ID": role.role_id,
        "VAULT_SECRET_ID": role.secret_id,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AZURE_TENANT_ID": azure["tenant_id"],
        "AZURE_CLIENT_ID": azure["client_id"],
        "AZURE_CLIENT_SECRET": azure["client_secret"],
        "HUAWEI_PROJECT_ID": huawei["project_id"],
        "HUAWEI_ACCESS_KEY": huawei["auth"]["access_key"],
        "HUAWEI_SECRET_KEY": huawei["auth"]["secret_key"],
    }


def stored(clouds: FourClouds, kind: str, text: str) -> tuple[Canary, Canary]:
    """Store what the text says there is; the password and the key."""
    password, key = Canary.new(), Canary.new()
    database, tls = ("shop/db", "shop/tls") if kind in ("vault", "aws") else ("shop-db", "shop-tls")
    for word in (database, tls, "password", "key"):
        assert f"`{word}`" in text
    clouds.put(kind, database, username="shop", password=password.text)
    clouds.put(kind, tls, key=key.text)
    return password, key


@pytest.mark.parametrize("kind", TYPES)
def test_the_example_works_as_it_stands(
    kind: str, clouds: FourClouds, agent: CloudAgent, home: DsoHome, stack: Project
) -> None:
    example = Example.of(kind)
    password, key = stored(clouds, kind, example.text)
    given = credentials(clouds)
    variables = {name: given[name] for name in dotenv.parse(example.variables, source="agent.env") if name}
    agent.install_frozen(kind)
    agent.env = {**variables, **clouds.environment()}
    agent.write_config(example.config.replace("version: 1\n", "", 1))
    stack.compose_yaml(example.stack)

    agent.serve(home)
    checked = run(agent.command("--check"), env=agent.environment())
    assert f" ({kind}): ok\n" in checked.out
    told = stack.dso("up", "-d", timeout=180)
    seen = dict(line.split("=", 1) for line in stack.inspect("api")["Config"]["Env"])
    if kind == "aws":
        assert (seen["DB_USER"], seen["DB_PASSWORD"]) == ("shop", password.text)
    else:
        assert seen["DATABASE_URL"] == f"postgres://shop:{password.text}@db:5432/shop"
    assert stack.exec("api", "cat", seen["TLS_KEY_FILE"]).out == key.text
    status = stack.dso("status", "--format", "json")
    (provider,) = json.loads(status.stdout)["agent"]["providers"]
    assert (provider["type"], provider["state"], provider["error"]) == (kind, "running", "")

    printed = told.stdout + told.stderr + status.stdout + agent.log.encode() + checked.stdout + checked.stderr
    assert not any(canary.find(printed) for canary in (password, key))
    assert not any(value.encode() in printed for name, value in variables.items() if "SECRET" in name)
    stack.dso("compose", "kill")
    stack.dso("down", timeout=180)
    stack.assert_nothing_left()


def test_every_type_has_an_example() -> None:
    assert HEADINGS.keys() == set(TYPES)
