"""A machine in a directory, whose programs are scripted; a stand-in for dso.host.machine.Host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dso.host.machine import Host
from dso.system.proc import Finished

if TYPE_CHECKING:
    from collections.abc import Sequence


class FakeHost(Host):
    """The files are below a directory, and belong to root where they belong to whoever runs the tests.

    Attributes:
        says: what a program prints and its exit code, by the beginning of its command line, the longest first;
            others print nothing and end with 0.
        calls: the command lines, in order.
    """

    def __init__(self, root: str, uid: int = 0) -> None:
        super().__init__(root, uid, self._answer)
        self.says: dict[str, tuple[str, int]] = {}
        self.calls: list[str] = []
        self.owners: dict[str, int] = {}

    def _answer(self, argv: Sequence[str]) -> Finished:
        line = " ".join(word.removeprefix(self.root) for word in argv)
        self.calls.append(line)
        for start in sorted(self.says, key=len, reverse=True):
            if line.startswith(start):
                text, code = self.says[start]
                return Finished(code, b"" if code else text.encode(), text.encode() if code else b"")
        return Finished(0, b"", b"")

    def status(self, path: str) -> os.stat_result | None:
        found = super().status(path)
        if found is None:
            return None
        fields = list(found)
        fields[4] = self.owners.get(path, 0 if found.st_uid == os.getuid() else found.st_uid)
        if path == "/":
            fields[0] = 0o040755
        return os.stat_result(fields)

    def write(self, path: str, content: str = "", mode: int = 0o644) -> None:
        os.makedirs(os.path.dirname(self.path(path)), 0o755, exist_ok=True)
        with open(self.path(path), "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(self.path(path), mode)
