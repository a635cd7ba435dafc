"""What a directory may have: what was granted to it or above it, for as long as nobody else can put files there."""

from __future__ import annotations

import json
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from dso.errors import InsecurePermissionsError, NotGrantedError
from dso.grants import coverage
from dso.grants.store import Coverage, Grant, Grants, forget, grant, revoke

if TYPE_CHECKING:
    from pathlib import Path

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to other users")


@pytest.fixture
def file(tmp_path: Path) -> str:
    directory = tmp_path / "home" / ".dso"
    directory.mkdir(parents=True, mode=0o700)
    return str(directory / "grants.json")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    directory = tmp_path / "shop"
    directory.mkdir(mode=0o755)
    return directory


def below(directory: Path, *names: str) -> Path:
    found = directory.joinpath(*names)
    found.mkdir(parents=True, exist_ok=True)
    return found


def test_nothing_is_granted_to_begin_with(file: str, shop: Path) -> None:
    assert Grants.load(file).list() == []
    assert not Grants.load(file).at(str(shop)).allows("shop/key")


def test_a_namespace_and_a_name_are_granted_and_nothing_beside_them(file: str, shop: Path) -> None:
    grant(str(shop), namespaces=["shop"], secrets=["global/stripe_key"], path=file)
    found = Grants.load(file).at(str(shop))
    assert found.allows("shop/a")
    assert found.allows("shop/a/b")
    assert found.allows("global/stripe_key")
    assert not found.allows("global/stripe")
    assert not found.allows("global/other")
    assert not found.allows("shopping/a")
    assert not found.allows("bank/shop")
    assert not found.configuration


def test_grants_add_up_and_are_taken_away_one_by_one(file: str, shop: Path) -> None:
    grant(str(shop), namespaces=["shop"], path=file)
    grant(str(shop), namespaces=["mail", "shop"], configuration=True, path=file)
    assert Grants.load(file).list() == [Grant(str(shop), ("mail", "shop"), (), True)]
    revoke(str(shop), namespaces=["shop"], path=file)
    assert Grants.load(file).list() == [Grant(str(shop), ("mail",), (), True)]
    revoke(str(shop), everything=True, path=file)
    assert Grants.load(file).list() == []


def test_the_file_is_private_and_documented_json(file: str, shop: Path) -> None:
    os.umask(os.umask(0))
    grant(str(shop), secrets=["global/k"], path=file)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    with open(file) as content:
        assert json.load(content) == {
            "version": 1,
            "grants": [{"directory": str(shop), "namespaces": [], "secrets": ["global/k"], "configuration": False}],
        }


def test_worktrees_and_monorepos_below_have_it_and_neighbours_do_not(file: str, shop: Path, tmp_path: Path) -> None:
    grant(str(shop), namespaces=["shop"], configuration=True, path=file)
    grants = Grants.load(file)
    assert grants.at(str(below(shop, "worktrees", "fix"))).allows("shop/key")
    assert grants.at(str(below(shop, "services", "api"))).configuration
    assert not grants.at(str(below(tmp_path, "shop-clone"))).allows("shop/key")
    assert not grants.at(str(tmp_path)).allows("shop/key")


def test_a_symlinked_release_is_where_it_points_to(file: str, shop: Path, tmp_path: Path) -> None:
    release = below(shop, "releases", "7")
    (shop / "current").symlink_to("releases/7")
    outside = below(tmp_path, "elsewhere")
    (shop / "foreign").symlink_to(outside)
    grant(str(shop), namespaces=["shop"], path=file)
    assert Grants.load(file).at(str(shop / "current")).allows("shop/key")
    assert Grants.load(file).at(str(release)).allows("shop/key")
    assert not Grants.load(file).at(str(shop / "foreign")).allows("shop/key")


def test_a_grant_by_a_symlink_is_of_the_directory_behind_it(file: str, shop: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(shop)
    grant(str(link), namespaces=["shop"], path=file)
    assert Grants.load(file).at(str(shop)).allows("shop/key")
    link.unlink()
    link.symlink_to(below(tmp_path, "evil"))
    assert not Grants.load(file).at(str(link)).allows("shop/key")


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_directory_that_others_may_write_to_breaks_the_grant_for_what_is_below(
    file: str, shop: Path, mode: int
) -> None:
    inner = below(shop, "drop", "project")
    grant(str(shop), namespaces=["shop"], path=file)
    (shop / "drop").chmod(mode)
    found = Grants.load(file).at(str(inner))
    assert not found.allows("shop/key")
    (weak,) = found.weak
    assert weak.directory == str(shop / "drop")
    assert weak.remedy == (
        f"chmod o-w {shop / 'drop'}" if mode != 0o1777 else "move the project to a directory of your own"
    )
    assert Grants.load(file).at(str(shop)).allows("shop/key")


def test_the_granted_directory_itself_counts_too(file: str, shop: Path) -> None:
    grant(str(shop), namespaces=["shop"], path=file)
    shop.chmod(0o777)
    assert not Grants.load(file).at(str(shop)).allows("shop/key")
    with pytest.raises(NotGrantedError, match="every user") as raised:
        grant(str(shop), namespaces=["more"], path=file)
    assert raised.value.hint == f"chmod o-w {shop}"


@ROOT_ONLY
def test_a_directory_of_another_user_breaks_the_grant(file: str, shop: Path) -> None:
    inner = below(shop, "bobs", "project")
    grant(str(shop), namespaces=["shop"], path=file)
    os.chown(shop / "bobs", 2002, -1)
    (weak,) = Grants.load(file).at(str(inner)).weak
    assert "belongs to user 2002" in str(weak)


@ROOT_ONLY
def test_directories_of_root_and_of_the_user_are_as_good(file: str, shop: Path) -> None:
    inner = below(shop, "anns")
    os.chown(inner, 2001, -1)
    grant(str(shop), namespaces=["shop"], path=file)
    mine = Grants(Grants.load(file).list(), uid=2001)
    assert mine.at(str(inner)).allows("shop/key")


@ROOT_ONLY
def test_a_group_of_more_than_the_user_breaks_the_grant(file: str, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grant(str(shop), namespaces=["shop"], path=file)
    os.chown(shop, -1, 100)
    shop.chmod(0o775)
    monkeypatch.setattr(coverage, "is_private_group", lambda gid, uid: False)
    (weak,) = Grants.load(file).at(str(shop)).weak
    assert weak.remedy == f"chmod g-w {shop}"
    monkeypatch.setattr(coverage, "is_private_group", lambda gid, uid: gid == 100)
    assert Grants.load(file).at(str(shop)).allows("shop/key")


def test_a_group_is_private_when_nobody_else_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import grp
    import pwd
    from types import SimpleNamespace

    groups = {10: ["ann"], 11: [], 12: ["ann", "bob"], 13: ["ann", "root"], 14: ["gone"], 0: []}
    users = [("root", 0, 0), ("ann", 1000, 10), ("bob", 1001, 11), ("ann2", 1000, 15)]

    def group(gid: int) -> object:
        return SimpleNamespace(gr_mem=groups[gid])

    monkeypatch.setattr(grp, "getgrgid", group)
    found = [SimpleNamespace(pw_name=name, pw_uid=uid, pw_gid=gid) for name, uid, gid in users]
    monkeypatch.setattr(pwd, "getpwall", lambda: found)
    private = {gid: coverage.is_private_group(gid, 1000) for gid in [*groups, 77]}
    assert private == {10: True, 11: False, 12: False, 13: True, 14: False, 0: True, 77: False}


def test_a_directory_with_an_access_list_is_not_taken_for_the_users_own_group(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.chmod(0o775)  # the group's bit is the mask of the list
    monkeypatch.setattr(coverage, "is_private_group", lambda gid, uid: True)
    assert coverage.weakness(str(shop), str(shop), os.geteuid()) is None
    monkeypatch.setattr(os, "listxattr", lambda *_args, **_flags: ["system.posix_acl_access"])
    weak = coverage.weakness(str(shop), str(shop), os.geteuid())
    assert weak is not None
    assert "access list" in weak.why


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_who_could_put_another_directory_in_its_place_breaks_the_grant(file: str, tmp_path: Path, mode: int) -> None:
    """They need not write to what was granted: `mv shop x; mv evil shop` is done in the directory above."""
    granted = below(tmp_path, "shared", "deep", "shop")
    grant(str(granted), namespaces=["shop"], configuration=True, path=file)
    (tmp_path / "shared").chmod(mode)
    found = Grants.load(file).at(str(below(granted, "worktree")))
    assert not found.allows("shop/key")
    assert not found.configuration
    (weak,) = found.weak
    assert str(weak) == f"{tmp_path / 'shared'} can be written to by every user"
    assert weak.remedy == f"chmod +t {tmp_path / 'shared'}"
    with pytest.raises(NotGrantedError, match="every user") as raised:
        grant(str(granted), namespaces=["more"], path=file)
    assert raised.value.hint == weak.remedy
    os.chmod(tmp_path / "shared", mode | stat.S_ISVTX)
    assert Grants.load(file).at(str(granted)).allows("shop/key"), "as under /tmp, where only owners rename"


@ROOT_ONLY
def test_a_directory_above_is_the_users_or_roots_as_well_in_a_sticky_one(file: str, tmp_path: Path) -> None:
    granted = below(tmp_path, "shared", "team", "shop")
    (tmp_path / "shared").chmod(0o1777)
    grant(str(granted), namespaces=["shop"], path=file)
    os.chown(granted, 2001, -1)
    anns = Grants(Grants.load(file).list(), uid=2001)
    for owner, is_good in ((0, True), (2001, True), (2002, False)):
        os.chown(tmp_path / "shared" / "team", owner, -1)
        found = anns.at(str(granted))
        assert found.allows("shop/key") is is_good
        assert [str(each) for each in found.weak] == (
            [] if is_good else [f"{tmp_path / 'shared' / 'team'} belongs to user 2002"]
        )


@ROOT_ONLY
def test_a_directory_above_that_a_group_can_write_to_has_the_same_rule(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted = below(tmp_path, "team", "shop")
    grant(str(granted), namespaces=["shop"], path=file)
    os.chown(tmp_path / "team", 0, 100)
    os.chown(granted, 2001, -1)
    (tmp_path / "team").chmod(0o775)
    anns = Grants(Grants.load(file).list(), uid=2001)
    monkeypatch.setattr(coverage, "is_private_group", lambda gid, uid: False)
    (weak,) = anns.at(str(granted)).weak
    assert weak.remedy == f"sudo chmod +t {tmp_path / 'team'}", "it is root's"
    monkeypatch.setattr(coverage, "is_private_group", lambda gid, uid: (gid, uid) == (100, 2001))
    assert anns.at(str(granted)).allows("shop/key"), "umask 002"


@ROOT_ONLY
@pytest.mark.parametrize(
    ("uid_map", "is_good"),
    [("0 0 4294967295", False), ("0 1000 1\n", True), ("0 1000 1\n 1 100000 65536\n", True)],
    ids=["the machine", "one user", "rootless"],
)
def test_a_bind_mount_below_an_owner_without_a_number_here_can_be_used(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid_map: str, is_good: bool
) -> None:
    """In a container with a user name space, the host's root is shown as 65534; elsewhere that is user nobody."""
    granted = below(tmp_path, "mounted", "shop")
    grant(str(granted), namespaces=["shop"], path=file)
    os.chown(tmp_path / "mounted", 65534, -1)
    (tmp_path / "uid_map").write_text(uid_map)
    monkeypatch.setattr(coverage, "_UID_MAP", str(tmp_path / "uid_map"))
    assert Grants.load(file).at(str(granted)).allows("shop/key") is is_good
    os.chown(granted, 65534, -1)
    assert not Grants.load(file).at(str(granted)).allows("shop/key"), "what is granted has to be the user's own"
    os.chown(granted, 0, -1)
    (tmp_path / "mounted").chmod(0o777)
    assert not Grants.load(file).at(str(granted)).allows("shop/key")


def test_several_directories_have_what_each_of_them_has(file: str, shop: Path, tmp_path: Path) -> None:
    other = below(tmp_path, "other")
    grant(str(shop), namespaces=["shop", "mail"], secrets=["global/a"], configuration=True, path=file)
    grant(str(other), namespaces=["mail"], secrets=["global/a", "shop/one", "global/b"], path=file)
    both = Grants.load(file).at_all([str(shop), str(other)])
    assert both == Coverage(frozenset({"mail"}), frozenset({"global/a", "shop/one"}), False)
    assert not Grants.load(file).at_all([str(shop), str(tmp_path)]).allows("mail/x")
    assert Grants.load(file).at_all([]) == Coverage()


def test_many_grants_at_the_same_time_are_all_kept(file: str, shop: Path) -> None:
    threads = [threading.Thread(target=grant, args=(str(shop),), kwargs={"namespaces": [f"n{i}"], "path": file})
               for i in range(16)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Grants.load(file).of(str(shop)).namespaces) == 16


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", '{"version": 2, "grants": []}', '{"version": 1}', '{"version": 1, "grants": [{}]}',
        '{"version": 1, "grants": [{"directory": 1}]}', '{"version": 1, "grants": [[]]}', "[" * 100_000,
        '{"version": 1, "grants": [{"directory": "/", "namespaces": [1]}]}', "\udcff",
        '{"version": 1, "grants": {"directory": "/"}}', '{"version": 1, "grants": [{"directory": "/", "secrets": ""}]}',
        '{"version": 1, "grants": [{"directory": "/", "namespaces": "bank"}]}',
    ],
)  # fmt: skip
def test_what_cannot_be_understood_grants_nothing(file: str, content: str) -> None:
    with open(file, "wb") as target:
        target.write(content.encode("utf-8", "surrogateescape"))
    os.chmod(file, 0o600)
    with pytest.raises(NotGrantedError, match="nothing counts as granted"):
        Grants.load(file)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_change_is_refused(file: str, shop: Path, mode: int) -> None:
    grant(str(shop), namespaces=["shop"], path=file)
    os.chmod(file, mode)
    with pytest.raises(InsecurePermissionsError):
        Grants.load(file)


@ROOT_ONLY
@pytest.mark.parametrize("which", ["file", "directory"])
def test_grants_that_another_user_wrote_are_refused(file: str, shop: Path, which: str) -> None:
    grant(str(shop), namespaces=["shop"], path=file)
    os.chown(file if which == "file" else os.path.dirname(file), 2002, -1)
    with pytest.raises(InsecurePermissionsError):
        Grants.load(file)
    with pytest.raises(InsecurePermissionsError):
        grant(str(shop), namespaces=["more"], path=file)


def test_a_directory_whose_name_is_not_text_can_be_granted(file: str, tmp_path: Path) -> None:
    odd = below(tmp_path, os.fsdecode(b"sh\xffop \n'x"))
    grant(str(odd), namespaces=["shop"], path=file)
    assert Grants.load(file).at(str(odd)).allows("shop/key")


def test_a_grant_to_the_home_directory_or_above_is_for_that_directory_alone(
    file: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = below(shop, "home")
    monkeypatch.setenv("HOME", str(home))
    for directory in (shop, home):
        grant(str(directory), namespaces=["bank"], path=file)
    grants = Grants.load(file)
    assert grants.at(str(shop)).allows("bank/key")
    assert grants.at(str(home)).allows("bank/key")
    assert not grants.at(str(below(home, "src", "clone"))).allows("bank/key")
    assert not grants.at(str(below(shop, "other"))).allows("bank/key")


def test_what_is_forgotten_is_forgotten_everywhere_but_for_settings(file: str, shop: Path, tmp_path: Path) -> None:
    other = below(tmp_path, "other")
    grant(str(shop), namespaces=["bank", "shop"], configuration=True, path=file)
    grant(str(other), secrets=["global/x", "bank/y"], path=file)
    assert forget(namespaces=["bank"], secrets=["global/x"], path=file) == [str(other), str(shop)]
    assert Grants.load(file).list() == [Grant(str(other), (), ("bank/y",)), Grant(str(shop), ("shop",), (), True)]
    assert forget(namespaces=["none"], path=file) == []
    forget(everything=True, path=file)
    assert Grants.load(file).list() == [Grant(str(shop), (), (), True)]
