"""The key of fingerprints."""

from __future__ import annotations

import os
import stat

import pytest

from dso.agent.fingerprints import KEY_BYTES, fingerprint_key
from dso.errors import FileAccessError


def test_the_key_is_made_once_and_ours_alone(tmp_path):
    state = tmp_path / "a" / "state"
    key = fingerprint_key(str(state))
    assert len(key) == KEY_BYTES
    assert fingerprint_key(str(state)) == key
    assert stat.S_IMODE((state / "mac.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert os.listdir(state) == ["mac.key"]
    assert fingerprint_key(str(tmp_path / "other")) != key


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_told_and_left_alone(tmp_path, content):
    path = tmp_path / "mac.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(FileAccessError, match="damaged") as caught:
        fingerprint_key(str(tmp_path))
    assert f"rm {path}" in caught.value.hint
    assert path.read_bytes() == content


def test_a_key_that_others_may_read_is_none(tmp_path):
    path = tmp_path / "mac.key"
    path.write_bytes(bytes(32))
    path.chmod(0o640)
    with pytest.raises(FileAccessError, match="read by others"):
        fingerprint_key(str(tmp_path))


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "real").write_bytes(bytes(32))
    (tmp_path / "mac.key").symlink_to("real")
    with pytest.raises(FileAccessError, match="cannot be kept"):
        fingerprint_key(str(tmp_path))


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileAccessError, match="cannot be kept") as caught:
        fingerprint_key(str(tmp_path / "file"))
    assert "agent.state_dir" in caught.value.hint


def test_of_two_agents_that_start_at_once_both_have_the_key_that_was_kept(tmp_path, monkeypatch):
    from dso.agent import fingerprints

    def too_late(path, _data, mode):
        assert mode == 0o600
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(b"w" * 32)
        raise FileExistsError(path)

    monkeypatch.setattr(fingerprints, "write_new", too_late)
    assert fingerprint_key(str(tmp_path)) == b"w" * 32
