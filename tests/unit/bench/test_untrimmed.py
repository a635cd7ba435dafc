"""The comparison is made anew when, and only when, something it is made from has changed."""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING

import pytest

from tests.bench import untrimmed
from tests.bench.plugins import SETTINGS
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_the_digest_changes_with_words_contents_and_names(tmp_path: Path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("x")
    other.write_text("x")
    usual = untrimmed.digest(["a", "b"], [str(one)])
    assert untrimmed.digest(["a", "b"], [str(one)]) == usual
    different = [
        untrimmed.digest(["ab"], [str(one)]),
        untrimmed.digest(["a", "c"], [str(one)]),
        untrimmed.digest(["a", "b"], [str(other)]),
        untrimmed.digest(["a", "b"], [str(one), str(other)]),
    ]
    one.write_text("y")
    assert len({usual, *different, untrimmed.digest(["a", "b"], [str(one)])}) == 6


def test_it_depends_on_every_module_and_on_the_pinned_packages():
    sources = untrimmed.sources()
    for name in ("dso/providers/serve.py", "dso/entry/daemon.py", "build/requirements.txt", "VERSION"):
        assert os.path.join(ROOT, name) in sources


def test_nothing_is_frozen_again_without_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    runs: list[str] = []

    def freeze(command: list[str], **_options: object) -> None:
        runs.append(command[-1])
        path = tmp_path / "bin" / "dso-provider-vault"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"binary")

    monkeypatch.setattr(untrimmed, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(untrimmed, "run", freeze)
    assert untrimmed.build("dso-provider-vault", told.append) == str(tmp_path / "bin" / "dso-provider-vault")
    untrimmed.build("dso-provider-vault", told.append)
    assert len(runs) == len(told) == 1
    monkeypatch.setattr(untrimmed, "sources", lambda: [runs[0]])
    untrimmed.build("dso-provider-vault", told.append)
    assert len(runs) == len(told) == 2


def test_a_build_that_failed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(untrimmed, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(untrimmed, "run", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            untrimmed.build("dso-provider-vault", lambda _what: None)


def test_nothing_of_our_specs_goes_into_it():
    command = " ".join(untrimmed.freeze_command("dso-provider-vault"))
    for word in (".spec", "build/specs", "--exclude", "--additional-hooks-dir", "--strip"):
        assert word not in command


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_launcher_starts_the_same_class_as_the_real_one(kind: str):
    real = os.path.join(ROOT, "dso", "entry", f"dso_provider_{kind}.py")
    with open(real, encoding="utf-8") as file:
        started = imported(file.read())
    assert set(untrimmed.PROVIDERS[kind]) <= started
    assert set(untrimmed.PROVIDERS[kind]) <= imported(untrimmed.launcher(f"dso-provider-{kind}"))


def imported(program: str) -> set[str]:
    """Modules and names of all `from MODULE import NAME`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(name.name for name in node.names)}
    return found
