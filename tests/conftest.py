"""What every test may ask for. The pieces are in tests/support."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support import evidence
from tests.support.engine import Engine, Images
from tests.support.hashicorp import NOT_TO_BE_HAD, HashicorpServer
from tests.support.home import VARIANTS, DsoHome
from tests.support.process import ROOT, run
from tests.support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path


# How long an example takes says something of the machine's load, and nothing of the code.
settings.register_profile("dso", deadline=None)
settings.load_profile("dso")

# Whoever starts us in the background may ignore these (`nohup`, `&` in a script), and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--variant source` tests without a frozen binary; CI runs both."""
    parser.addoption("--variant", choices=VARIANTS, help="which docker-dso to test (default: all that a test asks for)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that would be skipped fails: whatever is missing here, `make test` has to install.

    The one exception is a HashiCorp Vault server, which not every user's machine can build; CI can.
    """
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if NOT_TO_BE_HAD in reason and os.environ.get("CI") != "true":
            return report
        report.outcome = "failed"
        report.longrepr = f"{reason}: no test may be skipped, `make test` installs what they need"
    elif report.failed:
        report.sections += evidence.told()
    return report


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The Docker Engine; without one every test that asks for it fails."""
    if run(["docker", "version"], check=False).returncode:
        pytest.fail("no Docker Engine answers: run `make test`, or `make engine` before pytest", pytrace=False)
    return Engine.of_the_tester()


@pytest.fixture(scope="session")
def images(engine: Engine) -> Images:
    """The test images, built first where they are missing."""
    run([os.path.join(ROOT, "build", "machine", "images.sh")], timeout=600)
    return Images()


@pytest.fixture(scope="session")
def hashicorp() -> Iterator[HashicorpServer]:
    """A HashiCorp Vault for everybody: to seal it, make one of your own."""
    with HashicorpServer() as server:
        yield server


@pytest.fixture(scope="session")
def variant(request: pytest.FixtureRequest) -> str:
    """Which docker-dso: frozen, as users have it, unless `--variant` says otherwise; tests/cli runs both."""
    return str(request.config.getoption("--variant") or "frozen")


@pytest.fixture
def make_home(tmp_path: Path, variant: str) -> Callable[[str], DsoHome]:
    """Make a further user: `make_home("other")`."""

    def make(name: str) -> DsoHome:
        return DsoHome(str(tmp_path / name), variant)

    return make


@pytest.fixture
def home(make_home: Callable[[str], DsoHome]) -> DsoHome:
    """A user with an empty HOME and `docker dso`."""
    return make_home("home")


@pytest.fixture
def make_project(tmp_path: Path, engine: Engine, images: Images, home: DsoHome) -> Iterator[Callable[[], Project]]:
    """Make projects; whatever Docker has of them is removed after the test."""
    home.env.update(engine.env)
    made: list[Project] = []

    def make() -> Project:
        made.append(Project(str(tmp_path / f"dsotest{secrets.token_hex(4)}"), home, engine))
        return made[-1]

    yield make
    for project in made:
        project.remove()
        shutil.rmtree(project.directory, ignore_errors=True)
    assert [line for project in made for line in project.leftovers()] == [], "cannot be removed"


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    """An empty Compose project of `home`, removed after the test."""
    return make_project()
