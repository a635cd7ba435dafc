"""`docker dso fetch`: the secrets of Cloud Mode, their fields, and with --reveal their values."""

from __future__ import annotations

from dso.cli.plaintext import is_text
from dso.secret import ENV_SCHEME, MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from dso.cli.cloud import Cloud
    from dso.protocol.agent import Resolved
    from dso.protocol.state import SecretInfo
    from dso.secret import SecretRef, SecretValue

_DESCRIPTION = """\
Without NAME: list the secrets this user may read, and what the agent has of them in memory. With NAME: show a
secret's fields, masked; the values themselves do not even reach this command unless --reveal is given.
"""
_EPILOG = """\
NAME is an entry of dso.yaml or PROVIDER/PATH, with #FIELD and ?version=V if need be, as in a reference.
With --reveal a single value is written to standard output as it is, byte for byte (a terminal gets a newline
after it, and only what it shows as it is); several fields are a table, or one JSON object with --format json.

examples:
  docker dso fetch
  docker dso fetch prod/db
  PGPASSWORD=$(docker dso fetch prod/db#password --reveal) psql
  docker dso fetch prod/db --reveal --format json | jq -r .fields.password
  docker dso fetch dsofile://prod/tls --reveal > server.key
"""
_LOCAL = "with the local vault: `docker dso secret list`, and `docker dso secret get NAME` for a value"


class _Shown:
    """What there is to show of a secret: `fields` has None for a value that is masked, or null."""

    __slots__ = ("fields", "of_one", "reference", "seen")

    def __init__(
        self, reference: SecretRef, seen: Resolved, fields: Mapping[str, SecretValue | None], *, of_one: bool
    ) -> None:
        self.reference = reference
        self.seen = seen
        self.fields = fields
        self.of_one = of_one  # whether the one value in `fields` is all that the reference means

    @property
    def size(self) -> int | None:
        """The secret's size in bytes; None when its field `value` hides the whole."""
        return None if "value" in (self.seen.fields or ()) else self.seen.size


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    from dso.cli.output import add_list_options

    parser = subparsers.add_parser(
        "fetch",
        help="List the secrets of Cloud Mode, or show one: masked, unless --reveal",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="which secret")
    parser.add_argument("--reveal", action="store_true", help="show the values")
    add_list_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List secrets, or show one.

    The list as JSON: objects with `name`; `entry`, whether it is one of dso.yaml; `provider`, `path`, `pin` (the
    version that is asked for, or null); and of what the agent has in memory `version`, `age` in seconds
    and `stale`: null where it has nothing.

    One secret as JSON: `reference`, `provider` and `path` (null when NAME is no entry of dso.yaml), `version`,
    `size` in bytes (null when a field `value` hides the whole), `age` in seconds, `stale`, `fields` (by name; null
    if masked or null itself; a secret without fields has the one field `value`) and `base64`, whether the
    value is binary and shown in Base64.

    Raises:
        UsageError: flags contradict each other, or it is Local Mode.
        SecretNotFoundError, SecretFieldError, SecretForbiddenError, ProviderFailedError, ...: see dso.protocol.faults.
        UnsuitableValueError: a value that a terminal cannot show.
    """
    from dso.cli.cloud import Cloud, cloud_mode
    from dso.errors import UsageError

    if args.reveal and args.name is None:
        raise UsageError("--reveal needs the NAME of a secret", hint="docker dso fetch NAME --reveal")
    if args.reveal and args.quiet:
        raise UsageError("--reveal and -q contradict each other: -q prints names only")
    reference = None if args.name is None else _reference(args.name)
    with Cloud.open(cloud_mode(args, _LOCAL)) as cloud:
        if reference is None:
            return _list(cloud, args)
        shown = _found(cloud, reference, args)
        return _show(cloud, shown, args)


def _reference(name: str) -> SecretRef:
    from dso.secret import SecretRef

    return SecretRef.parse(name if "://" in name else ENV_SCHEME + name)


# The list


def _list(cloud: Cloud, args: argparse.Namespace) -> int:
    from dso.cli.output import note, print_json, print_table, say_names

    rows = _rows(cloud)
    if args.format == "json":
        print_json(rows)
    elif args.quiet:
        say_names(row["name"] for row in rows)
    else:
        print_table(("name", "provider", "path", "version", "age", ""), [_cells(row) for row in rows])
    if not rows:
        note("dso.yaml has no secret that this user may read")
    return 0


def _rows(cloud: Cloud) -> list[dict[str, Any]]:
    """Every entry, and what the agent has in memory besides, under the names that references use."""
    cached = {(one.provider, one.path, one.pin): one for one in cloud.known.cached}
    rows = []
    for entry in cloud.entries.values():
        found = cached.pop((entry.provider, entry.path, entry.version), None)
        row = {"name": entry.name, "entry": True, "provider": entry.provider, "path": entry.path, "pin": entry.version}
        state = (found.version, found.age, found.stale) if found else (None, None, None)
        rows.append(row | dict(zip(("version", "age", "stale"), state, strict=True)))
    named = {(entry.provider, entry.path, entry.version) for entry in cloud.entries.values()}
    for key, found in cached.items():
        if key not in named:
            name = f"{found.provider}/{found.path}" + (f"?version={found.pin}" if found.pin else "")
            rows.append({"name": name, "entry": False, **found._asdict()})
    return sorted(rows, key=lambda row: (not row["entry"], row["name"]))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    from dso.cli.output import duration

    path = row["path"] + (f"?version={row['pin']}" if row["pin"] else "")
    age = "-" if row["age"] is None else duration(row["age"])
    stale = "STALE: the provider does not answer" if row["stale"] else ""
    return (row["name"], row["provider"], path, row["version"] or "-", age, stale)


# One secret


def _found(cloud: Cloud, reference: SecretRef, args: argparse.Namespace) -> _Shown:
    """Look a secret up; without --reveal no value is asked for."""
    if reference.field is not None or reference.is_file:
        return _one_value(cloud, reference, args, reference.field or "value")
    from dso.secret import SecretRef

    whole = SecretRef(reference.path, field="value", version=reference.version)
    seen = _ask(cloud, args.name, whole, reveal=False)
    if seen.fields is None:
        shown = _one_value(cloud, whole, args, "value")
        return _Shown(reference, shown.seen, shown.fields, of_one=True)
    fields: Mapping[str, SecretValue | None] = dict.fromkeys(seen.fields)
    if args.reveal and fields:
        fields = _values(cloud, args.name, whole, fields)
    return _Shown(reference, seen, fields, of_one=len(fields) == 1)


def _one_value(cloud: Cloud, reference: SecretRef, args: argparse.Namespace, field: str) -> _Shown:
    seen = _ask(cloud, args.name, reference, reveal=args.reveal)
    return _Shown(reference, seen, {field: seen.value}, of_one=True)


def _ask(cloud: Cloud, name: str, reference: SecretRef, *, reveal: bool) -> Resolved:
    from dso.protocol.faults import error_of_references

    text = str(reference)
    resolved, faults = cloud.resolve([text], []) if reveal else cloud.resolve([], [text])
    if faults:
        raise error_of_references([faults[text]._replace(reference=name)], {})
    return resolved[text]


def _values(
    cloud: Cloud, name: str, whole: SecretRef, fields: Mapping[str, SecretValue | None]
) -> Mapping[str, SecretValue | None]:
    """The values of all fields. One that is called `value` hides the whole: then each is asked for by its name."""
    from dso.cli.output import warn
    from dso.protocol.codes import UNKNOWN_FIELD
    from dso.protocol.faults import error_of_references
    from dso.protocol.fields import fields_of
    from dso.secret import SecretRef, is_segment

    if "value" not in fields:
        value = _ask(cloud, name, whole, reveal=True).value
        return (fields_of(value, name=name) if value is not None else None) or {}
    texts = {
        field: str(SecretRef(whole.path, field=field, version=whole.version)) for field in filter(is_segment, fields)
    }
    resolved, faults = cloud.resolve(list(texts.values()))
    grave = [fault for fault in faults.values() if fault.code != UNKNOWN_FIELD]  # a field that is null is unknown
    if grave:
        raise error_of_references(grave, {})
    for field in fields:
        if field not in texts:
            warn(f"no reference can name the field {field!r}: it is left out")
    return {field: resolved[text].value if text in resolved else None for field, text in texts.items()}


def _show(cloud: Cloud, shown: _Shown, args: argparse.Namespace) -> int:
    from dso.cli.cloud import warn_if_stale
    from dso.cli.output import print_json, say_names

    warn_if_stale(args.name, shown.seen)
    entry = cloud.entries.get(shown.reference.path)
    if args.format == "json":
        print_json(_document(shown, entry))
    elif args.quiet:
        say_names(shown.fields)
    elif args.reveal and shown.of_one:
        _write(args.name, next(iter(shown.fields.values())))
    else:
        _print(shown, entry, reveal=args.reveal)
    return 0


def _document(shown: _Shown, entry: SecretInfo | None) -> dict[str, Any]:
    seen = shown.seen
    values = {field: None if value is None else value.reveal() for field, value in shown.fields.items()}
    is_binary = any(value is not None and not is_text(value) for value in values.values())
    return {
        "reference": str(shown.reference),
        "provider": entry.provider if entry else None,
        "path": entry.path if entry else None,
        "version": seen.version,
        "size": shown.size,
        "age": seen.age,
        "stale": seen.stale,
        "fields": {field: value if value is None else _encoded(value, is_binary) for field, value in values.items()},
        "base64": is_binary,
    }


def _encoded(value: bytes, is_binary: bool) -> str:  # noqa: FBT001
    if not is_binary:
        return value.decode()
    from binascii import b2a_base64

    return b2a_base64(value, newline=False).decode()


def _print(shown: _Shown, entry: SecretInfo | None, *, reveal: bool) -> None:
    from dso.cli.output import duration, print_table, say

    seen = shown.seen
    say(f"Name:     {shown.reference.path}")
    if entry is not None:
        say(f"Source:   {entry.provider}, {entry.path}")
    say(f"Version:  {seen.version or '-'}")
    if shown.size is not None:
        say(f"Size:     {shown.size} B")
    say(f"Age:      {duration(seen.age)}" + (", STALE: the provider does not answer" if seen.stale else ""))
    if not shown.fields:
        say("Fields:   none")
        return
    say()
    print_table(("field", "value"), [(name, _cell(value, reveal)) for name, value in shown.fields.items()])


def _cell(value: SecretValue | None, reveal: bool) -> str:  # noqa: FBT001
    """A field's value for a table: text that would break it, such as a key of several lines, as JSON."""
    if value is None:
        return "null" if reveal else MASK
    from dso.system.json_fast import dumps

    text = value.reveal().decode()
    return text if text.isprintable() else dumps(text)


def _write(name: str, value: SecretValue | None) -> None:
    """Write one value to standard output, byte for byte."""
    from dso.cli.plaintext import write_value
    from dso.errors import SecretFieldError

    if value is None:
        raise SecretFieldError(f"the one field of {name} is null", hint="give it a value at its provider")
    write_value(value.reveal(), name, f"docker dso fetch {name} --reveal > FILE")
