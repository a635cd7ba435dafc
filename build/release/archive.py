"""A tree as a .tar.gz that depends on nothing but names, contents and who may execute them."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile


def files_below(root: str) -> list[str]:
    """Paths of all files, relative to a directory, sorted."""
    found = [os.path.join(directory, name) for directory, _, names in os.walk(root) for name in names]
    return sorted(os.path.relpath(path, root) for path in found)


def checksums(root: str) -> str:
    """As `sha256sum` writes them, of every file below a directory."""
    return "".join(f"{_sha256(os.path.join(root, name))}  {name}\n" for name in files_below(root))


def pack(root: str, target: str, when: int) -> None:
    """Write a directory, under its own name, to a .tar.gz; all files belong to root and are of one time."""
    top = os.path.basename(root)
    directories = {os.path.dirname(name) for name in files_below(root)} - {""}
    partial = f"{target}.part"
    with open(partial, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) as packed:  # noqa: SIM117
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in sorted({"", *_with_parents(directories), *files_below(root)}):
                _add(tar, os.path.join(root, name), os.path.join(top, name).rstrip("/"), when)
    os.replace(partial, target)


def _with_parents(directories: set[str]) -> set[str]:
    parents = {"/".join(path.split("/")[:depth]) for path in directories for depth in range(1, path.count("/") + 1)}
    return directories | parents


def _add(tar: tarfile.TarFile, path: str, name: str, when: int) -> None:
    member = tarfile.TarInfo(name)
    member.mtime = when
    if os.path.isdir(path):
        member.type = tarfile.DIRTYPE
        member.mode = 0o755
        tar.addfile(member)
        return
    member.size = os.path.getsize(path)
    member.mode = 0o755 if os.access(path, os.X_OK) else 0o644
    with open(path, "rb") as file:
        tar.addfile(member, file)


def install(source: str, target: str) -> None:
    """Copy one file into a tree, with nothing of its mode but whether it is executable."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if os.access(source, os.X_OK) else 0o644)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
