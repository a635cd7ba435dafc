"""`docker dso secret`: store, read and manage secrets."""

from __future__ import annotations

import os

from dso.cli.output import add_list_options, note

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dso.cli.groups import AddCommand
    from dso.vault.store import SecretInfo

_EPILOG = """\
REF is KEY (stored as global/KEY), NAMESPACE/PATH, or a reference as Compose files have it:
dso://NAMESPACE/PATH. `get` also takes its #FIELD and ?version=N; it writes exactly the bytes, and to a
terminal only such as the terminal shows as they are.

examples:
  docker dso secret set shop/db_password                       asks for the value
  docker dso secret set shop/db_password --generate            32 random characters
  docker dso secret set shop/tls.key --from-file server.key    exactly the bytes of the file
  pass show shop/api | docker dso secret set shop/api_key      without the newline at the end
  docker dso secret get shop/db_password
  docker dso secret get 'dso://shop/aws#access_key?version=2'
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    from dso.cli.groups import add_group

    add = add_group(
        subparsers,
        "secret",
        "Store, read and manage secrets",
        "Store, read and manage the secrets in the vault.",
        _EPILOG,
    )
    _register_values(add)
    command = add("list", "List secrets: names, versions, dates and sizes, never values", run_list)
    command.add_argument("namespace", nargs="?", metavar="NAMESPACE", help="only the secrets of this namespace")
    add_list_options(command)
    command = add("rm", "Remove secrets with all their versions", run_rm)
    command.add_argument("refs", nargs="+", metavar="REF")
    command.add_argument("-f", "--force", action="store_true", help="do not ask")
    command = add("mv", "Rename a secret; its versions go with it", run_mv)
    command.add_argument("old", metavar="OLD")
    command.add_argument("new", metavar="NEW")
    command.add_argument("-f", "--force", action="store_true", help="replace NEW if it exists")
    command = add("history", "List the versions kept of a secret", run_history)
    command.add_argument("ref", metavar="REF")
    add_list_options(command)
    command = add("rollback", "Make an earlier version the current one, as a new version", run_rollback)
    command.add_argument("ref", metavar="REF")
    command.add_argument("version", nargs="?", metavar="VERSION", help="default: the one before the current")


def _register_values(add: AddCommand) -> None:
    command = add("set", "Store a secret: asks for the value, or reads it from standard input", run_set)
    command.add_argument("ref", nargs="?", metavar="REF")
    command.add_argument("--from-file", metavar="FILE", help="exactly the bytes of FILE (- for standard input)")
    command.add_argument(
        "--generate", nargs="?", const="", metavar="LEN", help="random url-safe characters, 32 unless --generate=LEN"
    )
    command.add_argument("--raw", action="store_true", help="keep a newline at the end of piped text")
    command = add("get", "Write a secret's bytes to standard output", run_get)
    command.add_argument("ref", metavar="REF")
    command.add_argument("-n", "--no-newline", action="store_true", help="on a terminal, add no newline")
    command = add("edit", "Edit a secret with $VISUAL or $EDITOR, in memory", run_edit)
    command.add_argument("ref", metavar="REF")
    command.add_argument("--raw", action="store_true", help="keep a newline that the editor adds at the end")


def run_plain(words: Sequence[str]) -> int | None:
    """Run `get REF`, which scripts call often; None if it is anything else (see `dso.cli.main`)."""
    if len(words) != 2 or words[0] != "get" or words[1].startswith("-"):  # noqa: PLR2004
        return None
    write_value(words[1])
    return 0


def run_get(args: argparse.Namespace) -> int:
    """Write a value as the flags say."""
    write_value(args.ref, newline_on_terminal=not args.no_newline)
    return 0


def write_value(ref: str, *, newline_on_terminal: bool = True) -> None:
    """Write a secret's value to standard output, byte for byte.

    Raises:
        UnsuitableValueError: standard output is a terminal, and would do something else than show the value.
    """
    from dso.system.files import write_all
    from dso.vault.names import parse_ref, version_number
    from dso.vault.store import Vault

    reference = parse_ref(ref)
    value = Vault.open().get(reference.path, version_number(reference))
    if reference.field is not None:
        from dso.protocol.fields import field_of

        value = field_of(value, reference.field, name=reference.path, as_file=reference.is_file)
    on_terminal = os.isatty(1)
    if on_terminal:
        from dso.cli.plaintext import check_showable

        check_showable(value.reveal(), str(reference), f"docker dso secret get {ref} > FILE")
    try:
        write_all(1, value.reveal())
        if newline_on_terminal and on_terminal:
            write_all(1, b"\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        from dso.errors import FileAccessError
        from dso.system.files import reason

        raise FileAccessError(f"cannot write to standard output: {reason(error)}") from error


def run_set(args: argparse.Namespace) -> int:
    """Store a value."""
    from dso.cli.grants.created import grant_created, new_names
    from dso.cli.secret_values import read_value, sort_out_generate
    from dso.vault.names import parse_name
    from dso.vault.store import Vault, check_value

    ref, length = sort_out_generate(args)
    name = parse_name(ref)
    value = read_value(args, name, length)
    check_value(name, value)
    with Vault.edit() as vault:
        new = new_names(vault, [name])
        number = vault.set(name, value)
        changed = vault.changed
    note(f"{name}: stored version {number}" if changed else f"{name}: version {number} has this value already")
    grant_created(new)
    return 0


def run_edit(args: argparse.Namespace) -> int:
    """Edit a value."""
    from dso.cli.secret_edit import run

    return run(args)


def run_list(args: argparse.Namespace) -> int:
    """List secrets."""
    from dso.vault.store import Vault

    vault = Vault.open()
    infos = vault.infos(args.namespace)
    if args.namespace and not infos:
        raise _no_namespace(args.namespace, vault.names())
    if args.format == "json":
        from dso.cli.output import print_json

        print_json([{"name": info.name, **_described(info)} for info in infos])
    elif args.quiet:
        from dso.cli.output import say_names

        say_names(info.name for info in infos)
    else:
        from dso.cli.output import print_table

        print_table(("name", "version", "updated", "size"), [(info.name, *_cells(info)) for info in infos])
    if not infos:
        note("the vault is empty: store a secret with `docker dso secret set NAMESPACE/NAME`")
    return 0


def run_history(args: argparse.Namespace) -> int:
    """List a secret's versions, newest first."""
    from dso.vault.names import parse_name
    from dso.vault.store import Vault

    infos = Vault.open().history(parse_name(args.ref))
    if args.format == "json":
        from dso.cli.output import print_json

        print_json([{**_described(info), "current": info is infos[0]} for info in infos])
    elif args.quiet:
        from dso.cli.output import say_names

        say_names(str(info.version) for info in infos)
    else:
        from dso.cli.output import print_table

        rows = [(*_cells(info), "current" if info is infos[0] else "") for info in infos]
        print_table(("version", "updated", "size", ""), rows)
    return 0


def run_rm(args: argparse.Namespace) -> int:
    """Remove secrets: all of those named, or none."""
    from dso.vault.names import missing_error, parse_name
    from dso.vault.store import Vault

    names = list(dict.fromkeys(map(parse_name, args.refs)))
    if not args.force and os.isatty(0):
        from dso.system.terminal import confirm

        vault = Vault.open()
        missing = [name for name in names if not vault.has(name)]
        if missing:
            raise missing_error(missing, vault.names())
        if not confirm(f"Remove {', '.join(names)} with all versions?"):
            note("nothing was removed")
            return 1
    with Vault.edit() as editable:
        editable.remove(names)
    note(f"removed {', '.join(names)}")
    return 0


def run_mv(args: argparse.Namespace) -> int:
    """Rename a secret; under its new name only those may have it who were granted that name while it existed."""
    from dso.cli.grants.created import forget_former, new_names, note_readers
    from dso.errors import SecretExistsError
    from dso.vault.names import parse_name
    from dso.vault.store import Vault

    old, new = parse_name(args.old), parse_name(args.new)
    with Vault.edit() as vault:
        vault.versions(old)  # a missing secret is reported before an existing target
        if new != old and vault.has(new) and not args.force:
            raise SecretExistsError(f"{new} exists already", hint="--force replaces it, with all its versions")
        created = new_names(vault, [new])
        vault.rename(old, new)
    note(f"{old} is now {new}")
    forget_former(created)
    note_readers(new)
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    """Make an earlier version current."""
    from dso.errors import UsageError
    from dso.vault.names import parse_name
    from dso.vault.store import Vault

    if args.version is not None and not (args.version.isascii() and args.version.isdigit()):
        raise UsageError(f"{args.version!r} is no version", hint="`docker dso secret history REF` lists them")
    name = parse_name(args.ref)
    with Vault.edit() as vault:
        was, number = vault.rollback(name, int(args.version) if args.version is not None else None)
        changed = vault.changed
    note(
        f"{name}: version {number} has the value of version {was}"
        if changed
        else f"{name}: the current version {number} has that value already"
    )
    return 0


def _described(info: SecretInfo) -> dict[str, object]:
    """What `--format json` shows: `updated_at` in seconds since 1970, `size` in bytes."""
    return {"version": info.version, "updated_at": info.updated_at, "size": info.size}


def _cells(info: SecretInfo) -> tuple[str, str, str]:
    from dso.cli.output import local_time

    return str(info.version), local_time(info.updated_at), f"{info.size} B"


def _no_namespace(namespace: str, names: list[str]) -> Exception:
    from difflib import get_close_matches

    from dso.errors import SecretNotFoundError

    namespaces = sorted({name.split("/", 1)[0] for name in names})
    near = get_close_matches(namespace, namespaces, 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    known = f"there are: {', '.join(namespaces)}" if namespaces else "the vault is empty"
    return SecretNotFoundError(f"no secret in namespace {namespace!r}{meant}", hint=known)
