"""What a volume's name and definition may be."""

from __future__ import annotations

import pytest

from dso.agent.volume.checks import VolumeError, check_name, check_spec, read_spec
from dso.protocol.agent import MAX_REQUEST_BYTES, SecretEntry, VolumeFile, VolumeSpec

SPEC = VolumeSpec(
    (VolumeFile("tls/key", "dso://shop/key", 1000, 1000, 0o400), VolumeFile("conf", "a={{dso://shop/a}}\n")),
    (SecretEntry("shop/a", "vault", "path/a", "3"),),
)


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


@pytest.mark.parametrize("name", ["a/" * 500_000 + "a", "a/" * 40 + "a", "x" * 2049])
def test_a_path_that_is_too_long_is_refused_before_it_is_taken_apart(name: str) -> None:
    with pytest.raises(VolumeError, match="a file's path has at most"):
        check_spec("v", VolumeSpec([VolumeFile(name, "dso://a/b")]))


def test_a_template_that_is_too_long_is_refused() -> None:
    with pytest.raises(VolumeError, match="longer than"):
        check_spec("v", VolumeSpec([VolumeFile("a", "{{dso://a/b}}" + "x" * 65536)]))


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "cannot be read"), ("[" * 100_000, "cannot be read"), ("x" * (MAX_REQUEST_BYTES + 1), "is longer than")],
)
def test_an_option_that_is_no_definition_is_refused(text: str, words: str) -> None:
    with pytest.raises(VolumeError, match=words) as caught:
        read_spec(text, "spec")
    assert len(str(caught.value)) < 200
