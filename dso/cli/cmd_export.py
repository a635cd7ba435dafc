"""`docker dso export`: the variables that dso.yaml maps fields to, with their values, as a file for other programs."""

from __future__ import annotations

from typing import NamedTuple

from dso.cli.plaintext import STDOUT, fault_as_variable, is_text, warn_of_plaintext, write_out
from dso.secret import ENV_SCHEME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from dso.cli.cloud import Cloud
    from dso.protocol.state import SecretInfo

_DESCRIPTION = """\
Write the variables of `mappings:` in dso.yaml with their values: those of the named entries, or of all that
this user may read. All of them or none. The result is plaintext.
"""
_EPILOG = """\
examples:
  docker dso export prod/db prod/api
  docker dso export -o prod.env                  a file only you can read (0600), which Compose reads back
  docker dso export --format json | jq -r .DB_PASSWORD
"""
_LOCAL = "with the local vault: docker dso env export NAMESPACE"
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})  # plain they are no text


class _Mapped(NamedTuple):
    """A variable, and where its value is."""

    variable: str
    entry: str
    field: str

    @property
    def reference(self) -> str:
        """What stands for the value."""
        return f"{ENV_SCHEME}{self.entry}#{self.field}"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    parser = subparsers.add_parser(
        "export",
        help="Write the variables of dso.yaml with their values, as env, JSON or YAML",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="entries of dso.yaml (default: all with `mappings`)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=STDOUT, help="write to a file (0600) instead of standard output"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--format", choices=("env", "json", "yaml"), default="env", help="a .env file, or one object (default: env)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export; JSON and YAML are one object, variables to texts.

    Raises:
        UsageError: it is Local Mode.
        SecretNotFoundError: no entry has that name, or none has mappings.
        ConfigError: a named entry sets no variable to a value, or two set the same.
        UnsuitableValueError: values that the format cannot hold; all in one error.
        FileExistsRefusedError, FileAccessError: see `write_out`.
    """
    from dso.cli.cloud import Cloud, cloud_mode

    with Cloud.open(cloud_mode(args, _LOCAL)) as cloud:
        mapped = _mapped(_chosen(cloud, args.names))
        values = _values(cloud, mapped)
    content = _CONTENT[args.format](_texts(mapped, values, args.format))
    write_out(content.encode(), args.output, force=args.force)
    if args.output != STDOUT:
        from dso.cli.output import note

        note(f"wrote {len(mapped)} variable{'' if len(mapped) == 1 else 's'} to {args.output} (0600)")
        warn_of_plaintext(args.output)
    return 0


def _chosen(cloud: Cloud, names: Sequence[str]) -> list[SecretInfo]:
    """The entries to export, in dso.yaml's order."""
    if names:
        return [_named(cloud, name) for name in dict.fromkeys(name.removeprefix(ENV_SCHEME) for name in names)]
    from dso.cli.output import note
    from dso.errors import SecretNotFoundError

    found = [entry for entry in cloud.entries.values() if entry.mappings]
    of_files = [entry.name for entry in found if entry.kind != "env"]
    if of_files:
        note(f"left out, since containers get a file and its path in the variable: {', '.join(of_files)}")
    if len(found) == len(of_files):
        raise SecretNotFoundError(
            "no entry of dso.yaml that this user may read has `mappings` to variables",
            hint="add `mappings: {FIELD: VARIABLE}` to entries; or show one secret: docker dso fetch NAME --reveal",
        )
    return [entry for entry in found if entry.kind == "env"]


def _named(cloud: Cloud, name: str) -> SecretInfo:
    from dso.errors import ConfigError, SecretNotFoundError

    entry = cloud.entries.get(name)
    if entry is None:
        from difflib import get_close_matches

        near = get_close_matches(name, cloud.entries, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise SecretNotFoundError(
            f"no entry of dso.yaml that this user may read has the name {name!r}",
            hint=meant + "`docker dso fetch` lists them",
        )
    if entry.kind != "env":
        raise ConfigError(
            f"{name} is for files: in containers its variables hold paths, not values",
            hint=f"docker dso fetch {name} --reveal",
        )
    if not entry.mappings:
        raise ConfigError(
            f"{name} has no `mappings`, so nothing says which variables it sets",
            hint=f"add `mappings: {{FIELD: VARIABLE}}` to it; or: docker dso fetch {name} --reveal",
        )
    return entry


def _mapped(entries: Sequence[SecretInfo]) -> list[_Mapped]:
    """Every variable once; ConfigError names all that several fields are mapped to."""
    found: dict[str, list[_Mapped]] = {}
    for entry in entries:
        for field, variable in entry.mappings:
            found.setdefault(variable, []).append(_Mapped(variable, entry.name, field))
    conflicts = [
        f"{variable}: {', '.join(one.reference for one in several)}"
        for variable, several in found.items()
        if len(several) > 1
    ]
    if conflicts:
        from dso.errors import ConfigError

        raise ConfigError(
            "several secrets are mapped to one variable:\n  " + "\n  ".join(conflicts),
            hint="export them one by one: docker dso export NAME -o FILE",
        )
    return [one for (one,) in found.values()]


def _values(cloud: Cloud, mapped: Sequence[_Mapped]) -> dict[str, bytes]:
    """The value of each reference."""
    from dso.cli.cloud import warn_if_stale
    from dso.protocol.faults import error_of_references

    resolved, faults = cloud.resolve(list(dict.fromkeys(one.reference for one in mapped)))
    if faults:
        raise error_of_references(list(faults.values()), {one.reference: f"variable {one.variable}" for one in mapped})
    for reference, one in resolved.items():
        warn_if_stale(reference, one)
    return {reference: one.value.reveal() for reference, one in resolved.items() if one.value is not None}


def _texts(mapped: Sequence[_Mapped], values: Mapping[str, bytes], form: str) -> dict[str, str]:
    problems = []
    for one in mapped:
        value = values[one.reference]
        fault = fault_as_variable(value) if form == "env" else "" if is_text(value) else "is not UTF-8 text"
        if fault:
            problems.append(f"{one.variable} ({one.reference}) {fault}")
    if problems:
        from dso.errors import UnsuitableValueError

        raise UnsuitableValueError(
            f"{form} cannot hold these values, and nothing was written:\n  " + "\n  ".join(problems),
            hint="`docker dso fetch NAME#FIELD --reveal > FILE` writes one value's bytes",
        )
    return {one.variable: values[one.reference].decode() for one in mapped}


def _as_env(texts: Mapping[str, str]) -> str:
    from dso.config.dotenv import quote

    return "".join(f"{name}={quote(value)}\n" for name, value in texts.items())


def _as_json(texts: Mapping[str, str]) -> str:
    from dso.cli.output import json_text

    return json_text(texts) + "\n"


def _as_yaml(texts: Mapping[str, str]) -> str:
    from dso.compose.override import quote

    return "".join(
        f"{quote(name) if name.lower() in _YAML_WORDS else name}: {quote(value)}\n" for name, value in texts.items()
    )


_CONTENT = {"env": _as_env, "json": _as_json, "yaml": _as_yaml}
