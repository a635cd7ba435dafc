"""`docker dso sync`: have the agent fetch secrets anew."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from typing import Any

    from dso.cli.cloud import Cloud
    from dso.errors import DsoError

CHANGED, UNCHANGED, FAILED = "changed", "unchanged", "failed"
_DESCRIPTION = """\
Have the agent fetch secrets from their providers now. Without NAME it reads its configuration again, and fetches
everything it has in memory. Containers keep what they were started with until `docker dso up` re-creates them.
"""
_LOCAL = "the local vault is always up to date: docker dso up"


class _Outcome:
    """What came of one secret; `error` is set if it failed."""

    __slots__ = ("error", "name", "result")

    def __init__(self, name: str, result: str, error: DsoError | None = None) -> None:
        self.name = name
        self.result = result
        self.error = error


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    from dso.cli.output import add_list_options

    parser = subparsers.add_parser(
        "sync",
        help="Have the agent fetch secrets anew",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="entries of dso.yaml, or PROVIDER/PATH (default: all)")
    add_list_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Have secrets fetched anew; returns 0, or the code of the gravest failure: see `_FAILURES`.

    JSON: `configuration`, what the agent says of it (null with NAME), and `secrets`: objects with `name`, `result`
    (changed, unchanged or failed), and of a failure `error` and `code`, its exit code. -q prints the names of
    those that changed.

    Raises:
        UsageError: it is Local Mode.
        ConfigError: the agent's dso.yaml is faulty; the former configuration stays in force.
        SecretNotFoundError, SecretForbiddenError, ProviderFailedError, ...: secrets could not be fetched.
    """
    from dso.cli.cloud import Cloud, cloud_mode

    with Cloud.open(cloud_mode(args, _LOCAL)) as cloud:
        configuration = None
        if args.names:
            outcomes = [_one(cloud, name) for name in dict.fromkeys(args.names)]
        else:
            configuration, outcomes = _everything(cloud)
    _print(args, configuration, outcomes)
    changed = [one for one in outcomes if one.result == CHANGED]
    if changed:
        from dso.cli.output import note

        note("`docker dso up` re-creates the services whose secrets changed")
    failed = [one for one in outcomes if one.error is not None]
    if failed:
        raise _error(failed, len(outcomes))
    return 0


def _one(cloud: Cloud, name: str) -> _Outcome:
    from dso.errors import (
        ConfigError,
        ProviderFailedError,
        ReferenceSyntaxError,
        SecretFieldError,
        SecretForbiddenError,
        SecretNotFoundError,
    )
    from dso.secret import ENV_SCHEME, SecretRef

    try:
        reference = SecretRef.parse(name if "://" in name else ENV_SCHEME + name)
        project = cloud.project.get(reference.path)
        if project is not None:  # the agent does not know this name, or has given it to another secret
            version = reference.version or project.version
            target = f"{project.provider}/{project.path}" + (f"?version={version}" if version else "")
        else:
            target = str(SecretRef(reference.path, version=reference.version))
        answer = cloud.agent.reload(target)
    except (
        *(SecretNotFoundError, SecretFieldError, SecretForbiddenError),
        *(ConfigError, ProviderFailedError, ReferenceSyntaxError),
    ) as error:
        return _Outcome(name, FAILED, error)
    failed = _failures(answer)
    if failed:
        return _Outcome(name, FAILED, failed[0][1])
    return _Outcome(name, CHANGED if answer.get("changed") else UNCHANGED)


def _everything(cloud: Cloud) -> tuple[dict[str, Any] | None, list[_Outcome]]:
    answer = cloud.agent.reload()
    cached = [f"{one.provider}/{one.path}" for one in cloud.agent.secrets().cached]
    changed = {str(one) for one in answer.get("changed") or ()}
    outcomes = {place: _Outcome(place, CHANGED if place in changed else UNCHANGED) for place in (*cached, *changed)}
    for place, error in _failures(answer):
        outcomes[place] = _Outcome(place, FAILED, error)
    names = _names(cloud)
    found = [_Outcome(names.get(one.name, one.name), one.result, one.error) for one in outcomes.values()]
    return answer.get("configuration"), sorted(found, key=lambda one: one.name)


def _names(cloud: Cloud) -> dict[str, str]:
    """The name in dso.yaml of what is at `provider/path`, where it has exactly one."""
    found: dict[str, set[str]] = {}
    for entry in cloud.entries.values():
        found.setdefault(f"{entry.provider}/{entry.path}", set()).add(entry.name)
    return {place: names.pop() for place, names in found.items() if len(names) == 1}


def _failures(answer: dict[str, Any]) -> list[tuple[str, DsoError]]:
    """What the agent could not fetch, as `provider/path`, and why."""
    from dso.errors import AgentProtocolError
    from dso.protocol.agent import Fault
    from dso.protocol.faults import class_of
    from dso.protocol.reading import MessageError, read_list

    try:
        faults = [Fault.from_json(one) for one in read_list(answer.get("failed") or [], "failed")]
    except MessageError as error:
        raise AgentProtocolError(f"the agent's answer is not what the API says: {error}") from None
    return [
        (fault.reference.removeprefix("dso://"), class_of(fault)(fault.message, hint=fault.hint)) for fault in faults
    ]


def _print(args: argparse.Namespace, configuration: dict[str, Any] | None, outcomes: Sequence[_Outcome]) -> None:
    from dso.cli.output import note, print_json, print_table, say_names

    if args.format == "json":
        print_json({"configuration": configuration, "secrets": [_document(one) for one in outcomes]})
        return
    if args.quiet:
        say_names(one.name for one in outcomes if one.result == CHANGED)
        return
    if configuration is not None:
        note(_told(configuration))
    if outcomes:
        rows = [(one.name, one.result, one.error.message if one.error else "") for one in outcomes]
        print_table(("secret", "result", ""), rows)
    else:
        note("the agent has no secret in memory that this user may read: there was nothing to fetch")


def _document(one: _Outcome) -> dict[str, Any]:
    error = one.error
    return {
        "name": one.name,
        "result": one.result,
        "error": error.message if error else None,
        "code": error.code if error else None,
    }


def _told(configuration: dict[str, Any]) -> str:
    """What the agent says of its configuration, in words."""
    from dso.system.visible import visible

    parts = []
    for what in ("added", "changed", "removed"):
        names = configuration.get(f"providers_{what}")
        if isinstance(names, list) and names:
            parts.append(f"providers {what}: {', '.join(map(str, names))}")
    waiting = configuration.get("restart_needed")
    if isinstance(waiting, list) and waiting:
        parts.append(f"in force after a restart of the agent: {', '.join(map(str, waiting))}")
    return visible("the agent read its configuration again" + (f" ({'; '.join(parts)})" if parts else ""))


def _error(failed: Sequence[_Outcome], count: int) -> DsoError:
    """One error for all failures, of the class of the one that another try can mend least."""
    errors = [one.error for one in failed if one.error is not None]
    gravest = min(errors, key=_rank)
    hints = "\n".join(dict.fromkeys(filter(None, (error.hint for error in errors))))
    if len(failed) == 1:
        return type(gravest)(f"{failed[0].name}: {gravest.message}", hint=hints)
    lines = _lines(failed)
    return type(gravest)(f"{len(failed)} of {count} secrets could not be fetched:\n  " + "\n  ".join(lines), hint=hints)


def _lines(failed: Iterable[_Outcome]) -> list[str]:
    return [f"{one.name}: {one.error.message}" for one in failed if one.error is not None]


def _rank(error: DsoError) -> int:
    """As in dso.protocol.faults: first what nobody but the author of dso.yaml can mend."""
    from dso.errors import (
        ConfigError,
        ReferenceSyntaxError,
        SecretFieldError,
        SecretForbiddenError,
        SecretNotFoundError,
    )

    order = (ReferenceSyntaxError, SecretNotFoundError, SecretFieldError, SecretForbiddenError, ConfigError)
    return next((rank for rank, kind in enumerate(order) if isinstance(error, kind)), len(order))
