"""What the volume driver remembers: definitions that outlast everything, holds that outlast no reboot."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from dso.agent import volumes
from dso.agent.volumes import Hold, State, VolumeError, check_name, check_spec, identify, runs
from dso.protocol.agent import SecretEntry, VolumeFile, VolumeSpec

if TYPE_CHECKING:
    from pathlib import Path

SPEC = VolumeSpec(
    (VolumeFile("tls/key", "dso://shop/key", 1000, 1000, 0o400), VolumeFile("conf", "a={{dso://shop/a}}\n")),
    (SecretEntry("shop/a", "vault", "path/a", "3"),),
)
OTHER = VolumeSpec([VolumeFile("key", "dsofile://shop/key#field?version=2")])


@pytest.fixture
def state(tmp_path: Path) -> State:
    return again(tmp_path)


def again(directory: Path, boot: str = "boot", now: float = 5.0) -> State:
    """The state as the next agent finds it."""
    found = State(str(directory / "state"), str(directory / "run"), boot)
    found.faults = found.load(now)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("name", ["a", "shop_dso_api", "0.9-x", "x" * 255])
def test_names_as_the_engine_has_them(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", "_a", "a b", "a\n", "ä", "x" * 256])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(VolumeError, match="no volume's name"):
        check_name(name)


def test_definition_with_references_only_is_accepted() -> None:
    check_spec("v", SPEC)
    check_spec("v", VolumeSpec([]))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (VolumeFile("key", "hunter2"), "has no reference"),
        (VolumeFile("key", ""), "has no reference"),
        (VolumeFile("key", "x dso://a/b"), "without braces"),
        (VolumeFile("key", "dso://a//b"), "empty segment"),
        (VolumeFile("../key", "dso://a/b"), "no file's name"),
        (VolumeFile("/key", "dso://a/b"), "no file's name"),
        (VolumeFile("key", "dso://a/b", uid=0xFFFFFFFF), "no such owner"),
        (VolumeFile("key", "dso://a/b", gid=1 << 40), "no such owner"),
        (VolumeFile("key", "dso://a/b", mode=0o4755), "mode"),
    ],
)
def test_anything_else_is_refused_with_the_name_of_the_file(file: VolumeFile, words: str) -> None:
    with pytest.raises(VolumeError, match=words) as caught:
        check_spec("shop", VolumeSpec([file]))
    assert repr(file.name) in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_two_files_in_one_place_are_refused() -> None:
    one = VolumeFile("a", "dso://a/b")
    for others in ([one], [one._replace(name="a/b")], [one._replace(name="a/b/c")]):
        with pytest.raises(VolumeError, match="volume shop"):
            check_spec("shop", VolumeSpec([one, *others]))
    check_spec("shop", VolumeSpec([one, one._replace(name="ab/c"), one._replace(name="b/a")]))


def test_definitions_are_there_for_the_next_agent(state: State, tmp_path: Path) -> None:
    state.define({"one": SPEC, "two": OTHER})
    state.forget("two")
    assert again(tmp_path, "another boot").volumes == {"one": SPEC}
    file = tmp_path / "state" / "volumes.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_several_definitions_are_set_or_none(state: State, tmp_path: Path) -> None:
    state.define({"one": SPEC})
    with pytest.raises(VolumeError, match="has no reference"):
        state.define({"one": OTHER, "bad": VolumeSpec([VolumeFile("x", "plain")])})
    with pytest.raises(VolumeError, match="no volume's name"):
        state.define({"one": OTHER, "../bad": SPEC})
    assert state.volumes == again(tmp_path).volumes == {"one": SPEC}


def test_definitions_that_cannot_be_written_are_not_believed(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.define({"one": SPEC})

    def fail(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(volumes, "write_atomic", fail)
    with pytest.raises(OSError, match="No space left"):
        state.define({"two": SPEC})
    with pytest.raises(OSError, match="No space left"):
        state.forget("one")
    assert state.volumes == {"one": SPEC}


def test_what_is_defined_already_is_not_written_again(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.define({"one": SPEC})
    monkeypatch.setattr(volumes, "write_atomic", None)
    state.define({"one": VolumeSpec.from_json(SPEC.to_json())})


def test_number_of_volumes_is_limited(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "MAX_VOLUMES", 2)
    state.define({"one": SPEC, "two": SPEC})
    with pytest.raises(VolumeError, match="2 volumes already") as caught:
        state.define({"three": SPEC})
    assert "docker volume ls -q -f driver=dso -f dangling=true | xargs -r docker volume rm" in str(caught.value)
    state.define({"two": OTHER})


def test_size_of_all_definitions_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(str(tmp_path / "state"), str(tmp_path / "run"), "boot", "other-driver")
    state.load(0)
    file = tmp_path / "state" / "volumes.json"
    large, small = VolumeSpec((VolumeFile("conf", "{{dso://shop/a}}" + "x" * 10_000),), ()), volumes.normal(OTHER)
    state.define({"one": large, "two": large})
    monkeypatch.setattr(volumes, "MAX_BYTES", file.stat().st_size)
    with pytest.raises(VolumeError, match=r"definitions of all volumes would take [0-9]+ bytes, and may") as caught:
        state.define({"three": small})
    assert "driver=other-driver" in str(caught.value)
    assert state.volumes == again(tmp_path).volumes == {"one": large, "two": large}
    state.define({"two": small, "three": small})  # smaller ones still replace those there are
    monkeypatch.setattr(volumes, "MAX_BYTES", 1)
    state.forget("one")  # and room can always be made
    assert again(tmp_path).volumes == {"two": small, "three": small}


def test_size_limit_is_far_from_what_projects_need() -> None:
    assert volumes.MAX_BYTES == 16 << 20


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1, "volumes": []}', b'{"format": 2}', b"\xff"])
def test_damaged_file_is_kept_aside_and_told(content: bytes, tmp_path: Path) -> None:
    again(tmp_path).define({"one": SPEC})
    file = tmp_path / "state" / "volumes.json"
    file.write_bytes(content)
    state = again(tmp_path)
    assert state.volumes == {}
    assert "volumes.json cannot be read" in state.faults[0]  # type: ignore[attr-defined]
    state.define({"two": OTHER})
    assert (tmp_path / "state" / "volumes.json.damaged").read_bytes() == content


def test_one_bad_definition_takes_no_other_with_it(tmp_path: Path) -> None:
    again(tmp_path).define({"one": SPEC})
    file = tmp_path / "state" / "volumes.json"
    body = json.loads(file.read_text())
    body["volumes"] |= {"bad": {"files": [{"name": "x", "template": "plain"}]}, "worse": 7, "../x": SPEC.to_json()}
    file.write_text(json.dumps(body))
    state = again(tmp_path)
    assert state.volumes == {"one": SPEC}
    assert len(state.faults) == 3  # type: ignore[attr-defined]


def test_holds_are_there_for_the_next_agent_of_the_same_boot(state: State, tmp_path: Path) -> None:
    state.holds = {"one": {"id": Hold(2, "17:42", 1.0)}}
    state.save_holds()
    assert again(tmp_path, now=9.0).holds == {"one": {"id": Hold(2, "17:42", 9.0)}}
    assert again(tmp_path, "another boot").holds == {}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format":1,"boot":"boot"}', b'{"format":1,"boot":"boot","holds":{"a":{"i":[1]}}}']
)
def test_damaged_holds_are_told_and_forgotten(content: bytes, state: State, tmp_path: Path) -> None:
    (tmp_path / "run" / "holds.json").write_bytes(content)
    found = again(tmp_path)
    assert found.holds == {}
    assert "holds.json cannot be read" in found.faults[0]  # type: ignore[attr-defined]


def test_directories_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    state = State(str(tmp_path / "state" / "x"), str(tmp_path / "run"), "boot")
    assert any("cannot be made" in fault for fault in state.load(0))
    assert state.volumes == {}


def test_process_is_known_by_more_than_its_number() -> None:
    one = identify(os.getpid())
    assert one.pid == os.getpid()
    assert runs(one.identity)
    assert not runs(f"{os.getpid()}:1")
    assert not runs("")
    assert identify(1 << 22).identity == ""


@pytest.mark.parametrize("name", ["a/" * 500_000 + "a", "a/" * 40 + "a", "x" * 2049])
def test_a_path_that_is_too_long_is_refused_before_it_is_taken_apart(name: str) -> None:
    with pytest.raises(VolumeError, match="a file's path has at most"):
        check_spec("v", VolumeSpec([VolumeFile(name, "dso://a/b")]))


def test_a_template_that_is_too_long_is_refused() -> None:
    with pytest.raises(VolumeError, match="longer than"):
        check_spec("v", VolumeSpec([VolumeFile("a", "{{dso://a/b}}" + "x" * 65536)]))
