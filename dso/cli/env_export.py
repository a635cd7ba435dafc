"""`docker dso env export`."""

from __future__ import annotations

from dso.cli.plaintext import STDOUT, fault_as_variable, is_text, warn_of_plaintext, write_out
from dso.errors import SecretNotFoundError, UnsuitableValueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from dso.vault.store import Vault

_DESCRIPTION = """\
Write the secrets of a namespace as a .env file, from which Compose reads exactly the same values.
All of them or none. The result is plaintext.
"""
_EPILOG = """\
examples:
  docker dso env export shop
  docker dso env export shop -o prod.env         a file only you can read (0600)
  docker dso env export shop --format json | jq -r .DB_PASSWORD
"""


def register_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of `env export`."""
    import argparse

    parser = commands.add_parser(
        "export",
        help="Write the secrets of a namespace as a .env file",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("namespace", metavar="NAMESPACE", help="which secrets")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=STDOUT, help="write to a file (0600) instead of standard output"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--format", choices=("env", "json"), default="env", help="a .env file, or a JSON object (default: env)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export a namespace.

    Raises:
        SecretNotFoundError: there is no such namespace.
        UnsuitableValueError: secrets that the format cannot hold; all in one error.
        FileExistsRefusedError: the file exists, and there is no `--force`.
        FileAccessError: the file cannot be written.
    """
    from dso.vault.store import Vault

    secrets = _secrets(Vault.open(), args.namespace)
    content = _as_json(args.namespace, secrets) if args.format == "json" else _as_env(args.namespace, secrets)
    write_out(content, args.output, force=args.force)
    if args.output != STDOUT:
        from dso.cli.output import note

        count = f"{len(secrets)} secret{'' if len(secrets) == 1 else 's'}"
        note(f"wrote {count} of namespace {args.namespace} to {args.output} (0600)")
        warn_of_plaintext(args.output)
    return 0


def _secrets(vault: Vault, namespace: str) -> dict[str, bytes]:
    """Names within the namespace and values, sorted by name."""
    names = vault.names(namespace)
    if not names:
        from difflib import get_close_matches

        known = sorted({name.partition("/")[0] for name in vault.names()})
        near = get_close_matches(namespace, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SecretNotFoundError(
            f"there are no secrets in namespace {namespace!r}", hint=hint + "`docker dso secret list` shows all"
        )
    return {name.removeprefix(namespace + "/"): vault.get(name).reveal() for name in sorted(names)}


def _as_env(namespace: str, secrets: Mapping[str, bytes]) -> bytes:
    from dso.config.dotenv import quote

    problems = [f"{namespace}/{name} {fault}" for name, value in secrets.items() for fault in _env_faults(name, value)]
    if problems:
        raise _unsuitable("a .env file", problems)
    return "".join(f"{name}={quote(value.decode())}\n" for name, value in secrets.items()).encode()


def _env_faults(name: str, value: bytes) -> Iterable[str]:
    if "/" in name:
        yield "has a / in its name, which no variable's name can have"
    if fault := fault_as_variable(value):
        yield fault


def _as_json(namespace: str, secrets: Mapping[str, bytes]) -> bytes:
    from dso.cli.output import json_text

    problems = [f"{namespace}/{name} is not UTF-8 text" for name, value in secrets.items() if not is_text(value)]
    if problems:
        raise _unsuitable("JSON", problems)
    values = {name: value.decode() for name, value in secrets.items()}
    return json_text(values).encode() + b"\n"


def _unsuitable(form: str, problems: list[str]) -> UnsuitableValueError:
    return UnsuitableValueError(
        f"{form} cannot hold these secrets, and nothing was written:\n  " + "\n  ".join(problems),
        hint="`docker dso secret get REF` writes one secret's bytes; `docker dso vault backup FILE` keeps everything",
    )
