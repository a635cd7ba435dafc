"""How grants and what was not granted are put into words; what a project's files say is made safe for a terminal."""

from __future__ import annotations

import os

from dso.system.visible import shell_word, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dso.grants.names import Named

_LONGEST = 200  # characters shown of a text that a stranger wrote


def one_line(text: str) -> str:
    """A stranger's text on one line, without anything that could steer a terminal, cut short if it is long."""
    shown = visible(text)
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "..."


def place(directories: Sequence[str]) -> str:
    """Where a project is: `in /home/ann/shop`, to be followed by what it does."""
    first, *others = map(one_line, directories) if directories else (os.getcwd(),)
    return f"in {first}" + (f", with files of {', '.join(others)}," if others else "")


def granted(names: Named) -> str:
    """What is granted: `all of namespace bank, and global/stripe_key`."""
    parts = [f"all of namespace {name}" for name in sorted(names.namespaces)] + sorted(names.secrets)
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def command(*words: str) -> str:
    """`docker dso WORDS`, to be copied into a shell."""
    return " ".join(["docker dso", *map(shell_word, words)])


def for_directory(directory: str) -> list[str]:
    """The flag that names a directory, unless it is where the user is."""
    resolved = os.path.realpath(directory)
    return [] if resolved == os.path.realpath(os.getcwd()) else ["--directory", resolved]


def names_of(names: Named) -> list[str]:
    """The words that `allow` takes for them."""
    return [*sorted(names.namespaces), *sorted(names.secrets)]


def bullets(lines: Iterable[str]) -> str:
    """Each on a line of its own, indented."""
    return "".join(f"\n  {line}" for line in lines)
