"""What is new in the vault: granted at once to the project it was made for, and to nobody who had its name before."""

from __future__ import annotations

import os

from dso.cli.output import note, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dso.grants.names import Named
    from dso.vault.store import Vault


def new_names(vault: Vault, names: Iterable[str]) -> Named:
    """What storing these secrets adds to a vault: namespaces that have nothing yet, and new names in `global`."""
    from dso.grants.names import narrow

    wanted = narrow(name for name in names if not vault.has(name))
    return wanted._replace(namespaces=frozenset(each for each in wanted.namespaces if not vault.names(each)))


def grant_created(new: Named) -> None:
    """Grant what was just created to the project in the current directory, if there is one.

    Nothing depends on it: where it cannot be granted, `up` asks.
    """
    if not new.namespaces and not new.secrets:
        return
    from dso.cli.grants.wording import command, granted, names_of, one_line
    from dso.compose.command import ComposeCommand
    from dso.compose.files import find_files
    from dso.errors import DsoError
    from dso.grants.store import grant

    try:
        files = find_files(ComposeCommand("", (), (), ()))
        here = [each for each in files.directories if each not in files.foreign]
        _note_former(new, here)
        for directory in here:
            grant(directory, namespaces=new.namespaces, secrets=new.secrets)
            note(f"the project in {one_line(directory)} may have {granted(new)}; see `docker dso allow --list`")
        for directory in files.foreign:
            allow = command("allow", "--directory", directory, *names_of(new))
            note(f"its files in {one_line(directory)} need a grant too, which is for everything below: {allow}")
    except DsoError as error:
        warn(f"the project here was not granted {granted(new)}: {error.message} ({error.hint})")


def _note_former(new: Named, here: Iterable[str]) -> None:
    """Say which other projects may have what is new: by a grant before it was made, or of an earlier life."""
    from dso.cli.grants.wording import command, granted, one_line
    from dso.grants.store import Grants

    known = set(map(os.path.realpath, here))
    for each in Grants.load().list():
        if each.directory not in known and (new.namespaces & {*each.namespaces} or new.secrets & {*each.secrets}):
            deny = command("deny", "--directory", each.directory, *sorted({*new.namespaces, *new.secrets}))
            note(f"the project in {one_line(each.directory)} was granted {granted(new)} before; to end that: {deny}")


def forget_former(new: Named) -> None:
    """Take what just got a secret of another name away from whoever had that namespace or name in an earlier life.

    Otherwise moving a secret would open it to projects nobody was thinking of.
    """
    from dso.cli.grants.wording import granted, one_line
    from dso.grants.store import forget

    for directory in forget(namespaces=new.namespaces, secrets=new.secrets):
        warn(f"the project in {one_line(directory)} was granted {granted(new)} of earlier; it is not any more")


def note_readers(name: str) -> None:
    """Say which projects may have a secret under the name that it has now."""
    from dso.cli.grants.wording import one_line
    from dso.grants.names import Named
    from dso.grants.store import Grants

    readers = [
        each.directory
        for each in Grants.load().list()
        if Named(frozenset(each.namespaces), frozenset(each.secrets)).allows(name)
    ]
    if readers:
        note(f"the projects in these directories may have {name}: {', '.join(map(one_line, readers))}")
