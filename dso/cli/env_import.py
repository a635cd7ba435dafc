"""`docker dso env import`."""

from __future__ import annotations

import os

from dso.cli.output import note, say
from dso.errors import EnvFileError, SecretExistsError, UsageError
from dso.protocol.fields import WHOLE_VALUE, is_object
from dso.secret import ENV_SCHEME, MAX_REFERENCE_BYTES, SecretValue, is_segment
from dso.system.visible import shell_word
from dso.vault.names import GLOBAL_NAMESPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from dso.config.dotenv import Entry
    from dso.vault.store import Vault

STDIN = "-"
_DESCRIPTION = """\
Store every variable of a .env file in the vault, as NAMESPACE/NAME; all of them or none.
Prints the lines to write under a service's `environment:` in compose.yaml.
FILE stays as it is: remove it, or what is secret in it, once the stack runs with the references.
"""
_EPILOG = """\
Compose expands $NAME, ${NAME:-default} and $$ in values without quotes or in double quotes. By
default the text is stored as it is written, and a note names the variables concerned. With
--interpolate what Compose would make of it is stored, with the environment's variables first and the
file's own earlier ones next, as Compose has it.

examples:
  docker dso env import .env                     into global, where `dso://NAME` finds them
  docker dso env import prod.env shop            as shop/NAME
  docker dso env import .env shop --dry-run      only say what would change
  sops -d prod.env | docker dso env import - shop
"""
_NEW, _CHANGED, _UNCHANGED, _SKIPPED = "new", "changed", "unchanged", "left out"


def register_import(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `env import`."""
    import argparse

    parser = commands.add_parser(
        "import",
        help="Store the variables of a .env file in the vault",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the .env file; - reads standard input")
    parser.add_argument(
        "namespace", metavar="NAMESPACE", nargs="?", default=GLOBAL_NAMESPACE, help="where to (default: global)"
    )
    parser.add_argument(
        "--interpolate",
        action=argparse.BooleanOptionalAction,
        help="store values with their $ expressions expanded, or, with --no-, as written without a note",
    )
    parser.add_argument("--replace", action="store_true", help="replace secrets that have another value in the vault")
    parser.add_argument("--skip-empty", action="store_true", help="leave out variables without a value")
    parser.add_argument(
        "--dry-run", action="store_true", help="store nothing; print what would become of each variable"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import a file.

    Raises:
        EnvFileError: a syntax error, or variables that cannot be stored; all of these in one error.
        SecretExistsError: secrets have another value, and there is no `--replace`; all in one error.
        FileAccessError: the file cannot be read.
    """
    from dso.cli.grants.created import grant_created, new_names
    from dso.grants.names import Named
    from dso.vault.store import Vault

    if not is_segment(args.namespace):
        raise UsageError(
            f"{args.namespace!r} is no namespace",
            hint="a namespace has letters, digits and _ . - only: docker dso env import FILE NAMESPACE",
        )
    source = "standard input" if args.file == STDIN else args.file
    last, values, skipped = _variables(args, source)
    new = Named()
    if args.dry_run:
        plan = _plan(Vault.open(), args, values, source)
    else:
        with Vault.edit() as vault:
            plan = _plan(vault, args, values, source)
            new = new_names(vault, [f"{args.namespace}/{name}" for name in values])
            for name, action in plan.items():
                if action in (_NEW, _CHANGED):
                    vault.set(f"{args.namespace}/{name}", values[name])
    plan.update(dict.fromkeys(skipped, _SKIPPED))
    objects = frozenset(name for name, value in values.items() if is_object(value))
    _report(args, plan, last, objects, source)
    grant_created(new)
    return 0


def _variables(args: argparse.Namespace, source: str) -> tuple[dict[str, Entry], dict[str, SecretValue], list[str]]:
    """The entry that counts of each variable, the values to store, and the names left out as empty."""
    from dso.config.dotenv import decode, entries, resolve
    from dso.system.proc import child_environment

    found = entries(decode(_content(args.file)), source=source)
    unset: list[Entry] = []
    values = resolve(found, lookup=child_environment().get if args.interpolate else None, source=source, unset=unset)
    last = {entry.name: entry for entry in found}
    undefined = {entry for entry in unset if entry is last[entry.name]}
    problems: list[str] = []
    kept: dict[str, SecretValue] = {}
    skipped: list[str] = []
    for name, entry in sorted(last.items(), key=_by_line):
        value = values.get(name, "")
        if entry in undefined:
            problems.append(f"line {entry.line}: {_shown(entry)} takes a variable that is not set")
        elif not value and args.skip_empty:
            skipped.append(name)
        else:
            problems += _problems(entry, args.namespace, value)
            kept[name] = SecretValue(value.encode("utf-8", "surrogateescape"))
    if problems:
        raise _cannot_import(source, problems)
    if not kept:
        raise EnvFileError(f"{source} sets no variable", hint="nothing was stored")
    repeated = [entry.name for entry in found if entry is not last[entry.name]]
    if repeated:
        note(f"set more than once in {source}, where the last one counts: {', '.join(dict.fromkeys(repeated))}")
    return last, kept, skipped


def _content(file: str) -> bytes:
    from dso.config.dotenv import MAX_BYTES
    from dso.system.files import read_file, read_input

    return read_input(MAX_BYTES) if file == STDIN else read_file(file, "the .env file", MAX_BYTES, pipes=True)


def _by_line(item: tuple[str, Entry]) -> int:
    return item[1].line


def _shown(entry: Entry) -> str:
    from dso.config.dotenv import shown

    return shown(entry.name)


def _problems(entry: Entry, namespace: str, value: str) -> Iterable[str]:
    """Why a variable cannot be stored."""
    from dso.vault.store import MAX_SECRET_BYTES

    place = f"line {entry.line}: "
    if not entry.name:
        yield place + "there is a value without a name"
    elif not is_segment(entry.name):
        yield place + f"{_shown(entry)} is no name for a secret, which has A-Z a-z 0-9 _ . - only"
    elif len(f"{namespace}/{entry.name}") > MAX_REFERENCE_BYTES - len(ENV_SCHEME):
        yield place + f"the name {entry.name[:40]}... is too long"
    if not value:
        why = (
            "has no value" if entry.literal is not None else "has no value here; Compose takes it from the environment"
        )
        yield place + f"{_shown(entry)} {why}"
    elif "\x00" in value:
        yield place + f"{_shown(entry)} has a NUL character, which no variable can hold"
    elif any("\udc80" <= character <= "\udcff" for character in value):
        yield place + f"{_shown(entry)} is not UTF-8 text"
    elif len(value.encode()) > MAX_SECRET_BYTES:
        yield place + f"{_shown(entry)} has more than {MAX_SECRET_BYTES} bytes"


def _cannot_import(source: str, problems: list[str]) -> EnvFileError:
    hints = []
    for mark, hint in (
        ("has no value", "--skip-empty leaves out variables without a value"),
        ("from the environment", "--interpolate takes values from the environment too, as Compose does"),
        ("that is not set", "set the variable, write ${NAME:-} for nothing, or $$ for a dollar sign"),
        (
            "not UTF-8",
            "convert the file to UTF-8, for example with iconv; or store those with `secret set --from-file`",
        ),
    ):
        if any(mark in problem for problem in problems):
            hints.append(hint)
    return EnvFileError(
        f"{source} cannot be imported, and nothing was stored:\n  " + "\n  ".join(problems), hint="\n".join(hints)
    )


def _plan(vault: Vault, args: argparse.Namespace, values: dict[str, SecretValue], source: str) -> dict[str, str]:
    """What becomes of each variable; raises SecretExistsError unless changes are wanted."""
    plan = {}
    for name, value in values.items():
        full_name = f"{args.namespace}/{name}"
        if not vault.has(full_name):
            plan[name] = _NEW
        else:
            plan[name] = _UNCHANGED if vault.get(full_name) == value else _CHANGED
    changed = [f"{args.namespace}/{name}" for name, action in plan.items() if action == _CHANGED]
    if changed and not args.replace:
        raise SecretExistsError(
            f"nothing was stored: {source} has other values for secrets that exist:\n  " + "\n  ".join(changed),
            hint="--replace gives them the values of the file (`secret rollback` gets the former ones back)",
        )
    return plan


def _report(
    args: argparse.Namespace, plan: dict[str, str], last: dict[str, Entry], objects: frozenset[str], source: str
) -> None:
    from dso.cli.output import print_table

    counts = ", ".join(
        f"{count} {action}"
        for action in (_NEW, _CHANGED, _UNCHANGED, _SKIPPED)
        if (count := sum(1 for found in plan.values() if found == action))
    )
    expressions = [name for name, entry in last.items() if entry.has_expression and plan[name] != _SKIPPED]
    if expressions and args.interpolate is None:
        note(
            f"taken as written, though Compose would expand $ expressions: {', '.join(expressions)}; "
            f"for what Compose makes of them use --interpolate{'' if args.dry_run else ' --replace'}"
        )
    if args.dry_run:
        note(f"dry run, nothing was stored; {source} into namespace {args.namespace}: {counts}")
        print_table(("secret", "action"), [(f"{args.namespace}/{name}", action) for name, action in plan.items()])
        return
    note(f"imported {source} into namespace {args.namespace}: {counts}")
    if args.file != STDIN:
        _warn_of_plaintext(args.file)
    note("write this into compose.yaml, under the `environment:` of the services that need it:")
    for name, action in plan.items():
        if action != _SKIPPED:
            # without a field, a JSON object would be taken for a set of them
            field = f"#{WHOLE_VALUE}" if name in objects else ""
            say(f"{_yaml_key(name)}: {ENV_SCHEME}{args.namespace}/{name}{field}")


def _warn_of_plaintext(file: str) -> None:
    from dso.cli.output import warn

    path = os.path.abspath(file)
    warn(
        f"the plaintext is still in {path}. Once the stack runs with the references, remove it: rm {shell_word(path)} "
        "(but keep the lines that compose.yaml itself uses as ${NAME}, and take `env_file:` out of compose.yaml)"
    )
    warn("copies may be in Git history and backups, where removing the file does not reach: change such secrets")


def _yaml_key(name: str) -> str:
    """A name as a mapping key that YAML reads as text: `1` and `on` would be something else."""
    is_word = name[0].isalpha() or name[0] == "_"
    return (
        name
        if is_word and name.lower() not in ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
        else f'"{name}"'
    )
