"""Docker's plugin protocol on a socket: what the Engine sends, what it gets, and when the socket is there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent import volumedriver, volumesocket
from dso.agent.volume.checks import VolumeError
from dso.agent.volumeapi import CONTENT_TYPE
from dso.agent.volumesocket import DriverServer, listen, open_driver
from dso.protocol.agent import VolumeFile, VolumeSpec
from dso.secret import SecretValue
from tests.unit.agent.test_volumedriver import FakeMounts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SPEC = VolumeSpec([VolumeFile("key", "dso://shop/key", os.getuid(), os.getgid())])
EVENTS: list[tuple[str, dict[str, Any]]] = []


def emit(event: str, /, **fields: Any) -> None:
    EVENTS.append((event, fields))


async def render(spec: VolumeSpec) -> list[tuple[VolumeFile, SecretValue]]:
    return [(file, SecretValue(b"v")) for file in spec.files]


async def post(path: str, where: str, raw: bytes) -> tuple[int, str, Any]:
    """Status, content type and body of an answer."""
    reader, writer = await asyncio.open_unix_connection(where)
    head = f"POST {path} HTTP/1.1\r\nHost: d\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
    try:
        writer.write(head.encode() + raw)
        answer = await reader.read()
    finally:
        writer.close()
    await writer.wait_closed()
    header, _, body = answer.partition(b"\r\n\r\n")
    lines = header.decode().splitlines()
    kind = next((line.partition(": ")[2] for line in lines if line.lower().startswith("content-type")), "")
    return int(lines[0].split()[1]), kind, json.loads(body) if body.startswith(b"{") else body


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`serve(play)` runs `play(server, ask)` with a driver on a socket; `ask(method, body)` posts."""
    EVENTS.clear()
    monkeypatch.setattr(volumedriver, "Mounts", FakeMounts)
    where = str(tmp_path / "plugins" / "mine.sock")

    def run(play: Callable[[DriverServer, Any], Awaitable[None]], **more: Any) -> None:
        async def ask(method: str, body: object = None, raw: bytes | None = None) -> tuple[int, str, Any]:
            return await post(f"/{method}", where, json.dumps(body).encode() if raw is None else raw)

        async def whole() -> None:
            settings: dict[str, Any] = {"path": where, **more}
            server = await open_driver(
                render, state_dir=str(tmp_path / "state"), runtime_dir=str(tmp_path / "run"), emit=emit, **settings
            )
            try:
                await asyncio.wait_for(play(server, ask), 60)
            finally:
                await server.close()

        asyncio.run(whole())

    return run


def test_every_call_of_the_protocol(serve: Callable[..., None], tmp_path: Path) -> None:
    where = str(tmp_path / "run" / "volumes" / "v")
    volume = {"Name": "v", "Mountpoint": ""}
    status = {"files": {"key": "dso://shop/key"}, "containers": 0}
    conversation: list[tuple[str, object, dict[str, object]]] = [
        ("Plugin.Activate", None, {"Implements": ["VolumeDriver"]}),
        ("VolumeDriver.Capabilities", {}, {"Capabilities": {"Scope": "local"}}),
        ("VolumeDriver.Create", {"Name": "v", "Opts": {"spec": json.dumps(SPEC.to_json())}}, {}),
        ("VolumeDriver.Create", {"Name": "v", "Opts": None}, {}),
        ("VolumeDriver.Get", {"Name": "v"}, {"Volume": {**volume, "Status": status}}),
        ("VolumeDriver.List", {}, {"Volumes": [volume]}),
        ("VolumeDriver.Path", {"Name": "v"}, {"Mountpoint": ""}),
        ("VolumeDriver.Mount", {"Name": "v", "ID": "1"}, {"Mountpoint": where}),
        ("VolumeDriver.Path", {"Name": "v"}, {"Mountpoint": where}),
        ("VolumeDriver.Unmount", {"Name": "v", "ID": "1"}, {}),
        ("VolumeDriver.Remove", {"Name": "v"}, {}),
        ("VolumeDriver.List", {}, {"Volumes": []}),
    ]

    async def play(_server: DriverServer, ask: Any) -> None:
        for method, body, wanted in conversation:
            raw = b"" if body is None else None
            status_code, kind, answer = await ask(method, body, raw)
            assert (status_code, kind, answer) == (200, CONTENT_TYPE, {**wanted, "Err": ""}), method

    serve(play)


@pytest.mark.parametrize("method", ["Get", "Path", "Mount", "Remove", "Create"])
def test_errors_are_told_as_docker_reads_them(method: str, serve: Callable[..., None]) -> None:
    async def play(_server: DriverServer, ask: Any) -> None:
        code, kind, answer = await ask(f"VolumeDriver.{method}", {"Name": "none", "ID": "1"})
        assert (code, kind) == (200, CONTENT_TYPE)
        assert "no such volume: none" in answer["Err"]

    serve(play)


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b"7", b'"x"', b"\xff\xfe", b'{"Name": 7}', b'{"Name":"v","ID":{}}', b"[" * 9999]
)
def test_requests_that_cannot_be_read_are_answered(raw: bytes, serve: Callable[..., None]) -> None:
    async def play(_server: DriverServer, ask: Any) -> None:
        code, _, answer = await ask("VolumeDriver.Mount", raw=raw)
        assert code == 400
        assert "cannot be read" in answer["Err"]
        assert (await ask("VolumeDriver.List", {}))[0] == 200

    serve(play)


def test_request_repeated_without_content_is_explained(serve: Callable[..., None]) -> None:
    async def play(_server: DriverServer, ask: Any) -> None:
        for method in ("Mount", "Unmount", "Get", "Remove", "Path", "Create"):
            code, _, answer = await ask(f"VolumeDriver.{method}", raw=b"")
            assert (code, "dso-agent ended meanwhile" in answer["Err"]) == (200, True)

    serve(play)


def test_too_large_a_request_is_refused(serve: Callable[..., None]) -> None:
    async def play(_server: DriverServer, ask: Any) -> None:
        code, _, answer = await ask("VolumeDriver.Create", {"Name": "v", "Opts": {"spec": "x" * 4_000_000}})
        assert code == 413
        assert answer["Err"]

    serve(play)


def test_defect_is_told_without_its_text(serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_spec: VolumeSpec) -> list[tuple[VolumeFile, SecretValue]]:
        raise ValueError("hunter2")

    monkeypatch.setitem(globals(), "render", broken)

    async def play(server: DriverServer, ask: Any) -> None:
        await server.driver.create("v", {"spec": json.dumps(SPEC.to_json())})
        _, _, answer = await ask("VolumeDriver.Mount", {"Name": "v", "ID": "1"})
        assert answer["Err"]
        assert "hunter2" not in json.dumps([answer, EVENTS])

    serve(play)


def test_socket_is_roots_alone_and_goes_with_the_agent(serve: Callable[..., None], tmp_path: Path) -> None:
    file = tmp_path / "plugins" / "mine.sock"

    async def play(server: DriverServer, _ask: Any) -> None:
        assert server.driver.status()["name"] == "mine"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert os.listdir(file.parent) == ["mine.sock"]

    serve(play)
    assert os.listdir(file.parent) == []


def test_socket_of_another_is_not_taken_away(serve: Callable[..., None], tmp_path: Path) -> None:
    file = tmp_path / "plugins" / "mine.sock"

    async def play(_server: DriverServer, _ask: Any) -> None:
        file.unlink()
        file.write_text("somebody else's")

    serve(play)
    assert file.read_text() == "somebody else's"


def test_file_of_a_killed_agent_is_replaced_one_that_answers_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with listen(path), pytest.raises(VolumeError, match="another dso-agent"):
        listen(path)
    listen(path).close()


def test_socket_that_somebody_else_answers_makes_the_driver_unavailable(
    serve: Callable[..., None], tmp_path: Path
) -> None:
    os.mkdir(tmp_path / "plugins")
    with listen(str(tmp_path / "plugins" / "mine.sock")):

        async def play(server: DriverServer, _ask: Any) -> None:
            assert server.driver.status()["available"] is False
            assert "another dso-agent" in server.driver.status()["reason"]

        serve(play)


def test_agent_without_rights_has_no_socket(
    serve: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeMounts, "probe", lambda _self: "no rights")

    async def play(server: DriverServer, _ask: Any) -> None:
        assert server.driver.status()["reason"] == "no rights"
        assert not (tmp_path / "plugins").exists()

    serve(play)


def test_agent_of_another_user_has_no_driver(serve: Callable[..., None]) -> None:
    async def play(server: DriverServer, _ask: Any) -> None:
        assert server.driver.status()["available"] is False
        assert server.driver.status()["reason"] == volumesocket.NEEDS_ROOT

    serve(play, path=None)


@pytest.mark.parametrize("reason", ["", "no rights"])
def test_socket_of_systemd_is_answered_whatever_happens_and_stays(
    reason: str, serve: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An Engine that finds it and gets no answer stalls."""
    real = FakeMounts.probe
    monkeypatch.setattr(FakeMounts, "probe", lambda self: real(self) or reason)
    os.mkdir(tmp_path / "plugins")
    path = str(tmp_path / "plugins" / "mine.sock")
    handed = socket.socket(socket.AF_UNIX)
    handed.bind(path)
    handed.listen()

    async def play(server: DriverServer, ask: Any) -> None:
        assert server.driver.status()["name"] == "mine"
        await server.driver.create("v", {"spec": json.dumps(SPEC.to_json())})
        _, _, answer = await ask("VolumeDriver.Mount", {"Name": "v", "ID": "1"})
        assert answer["Err"] == reason

    serve(play, activated=handed, path=None)
    assert os.path.exists(path)


def test_engine_that_hangs_up_ends_the_wait(serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()
    reached = asyncio.Event()

    async def wait(_spec: VolumeSpec) -> list[tuple[VolumeFile, SecretValue]]:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return []

    monkeypatch.setitem(globals(), "render", wait)

    async def play(server: DriverServer, ask: Any) -> None:
        await server.driver.create("v", {"spec": json.dumps(SPEC.to_json())})
        asking = asyncio.create_task(ask("VolumeDriver.Mount", {"Name": "v", "ID": "1"}))
        await reached.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(ended.wait(), 30)

    serve(play)
