"""Docker, as far as DSO needs it: the Engine, Compose, and which docker-dso Docker finds."""

from __future__ import annotations

from dso.errors import DsoError
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding
from dso.host.machine import NO_SUCH_PROGRAM, said
from dso.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from dso.delivery.engine import Engine
    from dso.host.machine import Host

COMPOSE = "2.24"  # !reset in override files, see dso.compose.model
ENGINE_WITH_SUBPATH = 26


def engine(found: Engine) -> tuple[list[Finding], dict[str, Any]]:
    """The Engine's findings, and what it says of itself (SystemInfo); {} if it does not answer."""
    try:
        info = found.info()
    except DsoError as error:
        return [Finding("engine", ERROR, "the Docker Engine does not answer", error.message, error.hint)], {}
    version = str(info.get("ServerVersion") or "?")
    findings = [Finding("engine", OK, f"Docker Engine {version}, API {found.api_version}")]
    if number(version) and number(version)[0] < ENGINE_WITH_SUBPATH:
        findings = [
            Finding(
                "engine",
                WARNING,
                f"Docker Engine {version}, API {found.api_version}",
                "dsofile:// in `secrets:` and `configs:` of a stack needs volume subpaths, which came with Engine 26",
                "upgrade the Engine, or refer to file secrets in `environment:` only",
            )
        ]
    return findings, info


def compose(host: Host, docker: Sequence[str]) -> list[Finding]:
    """Whether Compose is there and new enough."""
    finished = host.run([*docker, "compose", "version", "--short"])
    version = finished.stdout.decode("utf-8", "replace").strip().removeprefix("v")
    if finished.code == NO_SUCH_PROGRAM:
        remedy = "install Docker (docker-cli and the Compose plugin), or put it on PATH"
        return [Finding("compose", ERROR, f"there is no {docker[0]} command", "", remedy)]
    if finished.code or not version:
        cause = said(finished)
        return [Finding("compose", ERROR, "Docker has no Compose plugin", cause, "install docker-compose-plugin")]
    if number(version) < number(COMPOSE):
        cause = f"`docker dso up` needs {COMPOSE} or newer, which can take parts of a stack back (!reset)"
        return [Finding("compose", ERROR, f"Compose {version} is too old", cause, "upgrade docker-compose-plugin")]
    return [Finding("compose", OK, f"Compose {version}")]


def plugin(host: Host, docker: Sequence[str]) -> list[Finding]:
    """Which docker-dso `docker dso` runs, in Docker's own words, and which it hides."""
    import json

    finished = host.run([*docker, "info", "--format", "{{json .ClientInfo}}"])
    try:
        client = json.loads(finished.stdout)
        plugins = [one for one in client.get("Plugins") or [] if one.get("Name") == "dso"]
    except (ValueError, AttributeError):
        return [Finding("plugin", WARNING, "Docker does not tell which plugins it finds", said(finished), _HOW_TO_SEE)]
    if not plugins:
        return [
            Finding(
                "plugin",
                ERROR,
                "Docker does not find docker-dso, so there is no `docker dso`",
                "it looks in ~/.docker/cli-plugins (of the user who calls it: with sudo root's), "
                "/usr/local/lib/docker/cli-plugins and a few others",
                "install it with install.sh, as root for everybody",
            )
        ]
    return read_plugin(plugins[0])


_HOW_TO_SEE = "`docker info` lists plugins and their paths"


def read_plugin(found: Mapping[str, Any]) -> list[Finding]:
    """What Docker says of the plugin: its path, version, what it hides, what is wrong with it."""
    path, version = str(found.get("Path") or "?"), str(found.get("Version") or "?")
    if found.get("Err"):
        cause = f"Docker says: {found['Err']}"
        return [Finding("plugin", ERROR, f"{path} is no plugin that works", cause, f"remove or replace it: rm {path}")]
    findings = [Finding("plugin", OK, f"docker-dso {version}: {path}")]
    if version != VERSION:
        cause = f"this is docker-dso {VERSION}, started some other way"
        remedy = f"remove the one that is not wanted: rm {path}"
        findings = [Finding("plugin", WARNING, f"`docker dso` runs version {version}: {path}", cause, remedy)]
    findings += [
        Finding(
            "plugin",
            WARNING,
            f"there is another docker-dso, which is not used: {other}",
            f"Docker takes the first it finds, {path}; upgrading the other one changes nothing",
            f"remove the one that is not wanted: rm {other}",
        )
        for other in found.get("ShadowedPaths") or []
    ]
    return findings


def mode(flag: str | None, config: str | None) -> list[Finding]:
    """Which mode runs here."""
    from dso.config.mode import detect_mode
    from dso.errors import NotConfiguredError

    try:
        found = detect_mode(flag, config)
    except NotConfiguredError as error:
        return [Finding("mode", WARNING, "no mode is set up here", error.message, error.hint)]
    except DsoError as error:
        return [Finding("mode", ERROR, error.message, "", error.hint)]
    shown = Finding("mode", OK, f"{found.name.capitalize()} Mode ({found.reason})")
    return [shown, Finding("mode", NOTE, found.warning)] if found.warning else [shown]


def number(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: 2.24.6-desktop.1 is (2, 24, 6)."""
    found = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            found.append(int(digits))
        if digits != part:
            break
    return tuple(found)
