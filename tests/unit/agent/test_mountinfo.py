"""The kernel's tables of mounts, and who uses a volume; with tables written down here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.agent import mountinfo
from dso.agent.mountinfo import Entry, Place

if TYPE_CHECKING:
    from pathlib import Path

HOST = """\
20 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 20 0:25 / /run rw,nosuid shared:2 - tmpfs tmpfs rw,mode=755
40 30 0:99 / /run/dso/volumes/shop_dso_api rw shared:3 - tmpfs dso rw
"""
# A service of systemd with PrivateTmp=: a copy of the host's name space, with other numbers.
SERVICE = """\
120 90 254:0 / / rw,relatime master:1 - ext4 /dev/vda rw
130 120 0:25 / /run rw,nosuid master:2 - tmpfs tmpfs rw,mode=755
140 130 0:99 / /run/dso/volumes/shop_dso_api rw master:3 - tmpfs dso rw
"""
# `docker run -v /:/host`: the same in a directory of a container.
MONITOR = """\
220 200 0:50 / / rw - overlay overlay rw
230 220 254:0 / /host rw - ext4 /dev/vda rw
240 230 0:25 / /host/run rw - tmpfs tmpfs rw
250 240 0:99 / /host/run/dso/volumes/shop_dso_api rw - tmpfs dso rw
"""
CONTAINER = """\
320 300 0:51 / / rw - overlay overlay rw
330 320 0:99 / /run/secrets/dso ro - tmpfs dso rw
"""
SUBPATH = """\
320 300 0:51 / / rw - overlay overlay rw
330 320 0:99 /pem /etc/tls/key.pem ro - tmpfs dso rw
"""
# A container that has it at the very path the host has, and one whose parent is hidden from it.
SAME_PATH = """\
320 300 0:51 / / rw - overlay overlay rw
330 320 0:99 / /run/dso/volumes/shop_dso_api ro - tmpfs dso rw
"""
CHROOTED = "330 7 0:99 / /x rw - tmpfs dso rw\n"
OURS = {"0:99": Place("0:25", "/dso/volumes/shop_dso_api")}


def proc(directory: Path, *tables: str) -> str:
    """A proc file system with a process for each table, and the host's as the first."""
    for number, table in enumerate((HOST, *tables), start=10):
        (directory / str(number) / "ns").mkdir(parents=True)
        (directory / str(number) / "ns" / "mnt").symlink_to(f"mnt:[{number}]")
        (directory / str(number) / "mountinfo").write_text(table)
    (directory / "self").mkdir()
    return str(directory)


def test_entries_are_read_with_every_field() -> None:
    assert mountinfo.parse(HOST)[2] == Entry(40, 30, "0:99", "/", "/run/dso/volumes/shop_dso_api", "tmpfs", "dso")


def test_blanks_and_backslashes_in_paths_are_read() -> None:
    line = r"1 2 0:1 /a\040b /c\134d\011e\012 rw shared:9 master:3 - tmpfs na\040me rw"
    (entry,) = mountinfo.parse(line)
    assert (entry.root, entry.point, entry.source) == ("/a b", "/c\\d\te\n", "na me")


@pytest.mark.parametrize("line", ["", "1 2 0:1", "1 2 0:1 / / rw shared:1", "1 2 0:1 / / rw -"])
def test_lines_of_another_form_are_left_out(line: str) -> None:
    assert mountinfo.parse(line + "\n" + HOST) == mountinfo.parse(HOST)


def test_our_own_table_can_be_read() -> None:
    assert any(entry.point == "/" for entry in mountinfo.read())
    device = mountinfo.number(os.stat("/proc").st_dev)
    assert any(entry.device == device and entry.kind == "proc" for entry in mountinfo.read())


def test_place_is_the_directory_under_the_mount_whatever_path_leads_there() -> None:
    for table in map(mountinfo.parse, (HOST, SERVICE, MONITOR)):
        assert mountinfo.place_of(table[-1], table) == OURS["0:99"]


def test_topmost_of_several_mounts_counts() -> None:
    table = mountinfo.parse(HOST + "41 40 0:100 / /run/dso/volumes/shop_dso_api rw - tmpfs dso rw\n")
    assert mountinfo.topmost(table, "/run/dso/volumes/shop_dso_api").device == "0:100"
    assert mountinfo.topmost(table, "/run/dso/volumes") is None


@pytest.mark.parametrize("table", [CONTAINER, SUBPATH, SAME_PATH, CHROOTED])
def test_container_that_has_the_volume_uses_it(table: str, tmp_path: Path) -> None:
    assert mountinfo.usage(OURS, proc(tmp_path, table)).devices == {"0:99"}


@pytest.mark.parametrize("tables", [(), (SERVICE,), (MONITOR,), (SERVICE, MONITOR)])
def test_copies_of_the_hosts_name_space_do_not(tables: tuple[str, ...], tmp_path: Path) -> None:
    assert mountinfo.usage(OURS, proc(tmp_path, *tables)) == mountinfo.Usage(set(), is_complete=True)


def test_mount_elsewhere_on_the_host_is_a_use(tmp_path: Path) -> None:
    """As virtual machines' runtimes do, and the Engine itself for a moment when it starts a subpath."""
    table = HOST + "60 20 0:99 / /var/lib/vm/shared rw - tmpfs dso rw\n"
    assert mountinfo.usage(OURS, proc(tmp_path, table)).devices == {"0:99"}


def test_process_that_may_not_be_looked_at_makes_it_incomplete_unless_it_is_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = proc(tmp_path, SERVICE)
    hidden = "1"
    real = os.readlink

    def readlink(path: str) -> str:
        if path == f"{where}/{hidden}/ns/mnt":
            raise PermissionError
        return real(path)

    monkeypatch.setattr(os, "readlink", readlink)
    (tmp_path / "1").mkdir()
    assert mountinfo.usage(OURS, where).is_complete
    hidden = "77"
    (tmp_path / "77").mkdir()
    assert not mountinfo.usage(OURS, where).is_complete


def test_each_name_space_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = proc(tmp_path, CONTAINER)
    for number in range(100, 200):
        (tmp_path / str(number) / "ns").mkdir(parents=True)
        (tmp_path / str(number) / "ns" / "mnt").symlink_to("mnt:[11]")  # and no mountinfo
    reads: list[object] = []
    real = mountinfo.read

    def read(process: int | str = "self", proc: str = "/proc") -> list[Entry]:
        reads.append(process)
        return real(process, proc)

    monkeypatch.setattr(mountinfo, "read", read)
    ended = tmp_path / "12"
    ended.mkdir()
    assert mountinfo.usage(OURS, where).devices == {"0:99"}
    # The one whose table is missing is not "read": another process of that name space may have it.
    assert reads.count("10") == 1
    assert reads.count("11") == 1


def test_only_a_newline_ends_a_line() -> None:
    line = "36 35 98:0 / /mnt/a\x0bb\u2028c\rd rw - tmpfs none rw"
    (found,) = mountinfo.parse(line + "\n")
    assert found.point == "/mnt/a\x0bb\u2028c\rd"
