"""The machine as `docker dso system` sees it: its files, its programs, who asks."""

from __future__ import annotations

import os

from dso.system.proc import Finished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Run = Callable[[Sequence[str]], Finished]

NO_SUCH_PROGRAM = 127  # as a shell has it
_ADMIN_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # su and cron leave them out of PATH


class Host:
    """The machine.

    Attributes:
        root: goes before every path; "" but in tests.
        uid: who asks; 0 may do everything.
        run: starts a program and waits for it; code 127 if there is none.
    """

    __slots__ = ("root", "run", "uid")

    def __init__(self, root: str = "", uid: int | None = None, run: Run | None = None) -> None:
        self.root = root
        self.uid = os.geteuid() if uid is None else uid
        self.run = run or _run

    def path(self, path: str) -> str:
        """Where an absolute path of the machine is."""
        return self.root + path

    def exists(self, path: str) -> bool:
        """Whether there is something, a broken link too; False where this user may not look."""
        return os.path.lexists(self.path(path))

    def read(self, path: str) -> bytes | None:
        """What a file holds; None if it cannot be read."""
        try:
            with open(self.path(path), "rb") as file:
                return file.read()
        except OSError:
            return None

    def status(self, path: str) -> os.stat_result | None:
        """Who owns it and what it is, links not followed; None if that cannot be seen."""
        try:
            return os.lstat(self.path(path))
        except OSError:
            return None

    def real_path(self, path: str) -> str:
        """Where a path leads, links followed."""
        real = os.path.realpath(self.path(path))
        return real.removeprefix(os.path.realpath(self.root)) if self.root else real

    def set_mode(self, path: str, forbid: int, *, allow: int = 0, owner: int | None = None) -> None:
        """`set_mode` of a file of the machine."""
        set_mode(self.path(path), forbid, allow=allow, owner=owner)

    @property
    def has_systemd(self) -> bool:
        """Whether systemd runs the machine: sd_booted(3)."""
        return os.path.isdir(self.path("/run/systemd/system"))


def set_mode(path: str, forbid: int, *, allow: int = 0, owner: int | None = None) -> None:
    """Take permissions away from a file or directory, and add others; `owner`: give it to that user and group.

    What a symbolic link leads to is never touched, should somebody put one in its place. OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if owner is not None:
            os.fchown(descriptor, owner, owner)
        os.fchmod(descriptor, (os.fstat(descriptor).st_mode & 0o7777 & ~forbid) | allow)
    finally:
        os.close(descriptor)


def _run(argv: Sequence[str]) -> Finished:
    from dso.errors import DockerNotFoundError
    from dso.system import proc

    path = os.pathsep.join([*os.get_exec_path(), *_ADMIN_DIRECTORIES])
    environment = proc.child_environment({"PATH": path, "LC_ALL": "C", "SYSTEMD_PAGER": "", "NO_COLOR": "1"})
    program = argv[0] if "/" in argv[0] else _found(argv[0], path)
    try:
        return proc.run_or_stop([program, *argv[1:]], environment=environment)
    except DockerNotFoundError:  # which is what proc calls every missing program
        return Finished(NO_SUCH_PROGRAM, b"", f"there is no program {argv[0]}".encode())
    except OSError as error:
        return Finished(NO_SUCH_PROGRAM - 1, b"", f"{argv[0]}: {error.strerror}".encode())


def _found(program: str, path: str) -> str:
    for directory in path.split(os.pathsep):
        if directory and os.access(f"{directory}/{program}", os.X_OK):
            return f"{directory}/{program}"
    return program


def said(finished: Finished) -> str:
    """What a program said, errors first, on one line; for messages."""
    text = (finished.stderr + b"\n" + finished.stdout).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines[:3]) or f"exit code {finished.code}"
