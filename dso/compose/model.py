"""The stack as Compose itself reads it: the one `docker compose config` of a command."""

from __future__ import annotations

from dso.compose.template import mentions_reference
from dso.errors import ComposeFailedError, ComposeNotFoundError
from dso.secret import ENV_SCHEME, FILE_SCHEME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from dso.compose.command import ComposeCommand
    from dso.compose.plugin import Compose
    from dso.system.proc import Running

MINIMUM_VERSION = "2.24"  # !override and !reset in override files
_PATH_KEYS = frozenset({"context", "device", "dockerfile", "file", "path", "source"})  # Compose makes them absolute

# What switches fetching files from git and from registries; Compose's error names the one that is off.
_REMOTE_SWITCHES = (b"COMPOSE_EXPERIMENTAL_GIT_REMOTE", b"COMPOSE_EXPERIMENTAL_OCI_REMOTE")


class Model:
    """What `docker compose config --format json` says, for the services one command concerns."""

    def __init__(self, document: Mapping[str, Any], services: Sequence[str] | None = None) -> None:
        """Keep the document; `services` narrows it to those (all that Compose names otherwise)."""
        self.document = document
        self.project: str = document["name"]
        found: dict[str, Any] = document.get("services") or {}
        self.services = {name: found[name] for name in found if services is None or name in services}

    def top_level(self, kind: str) -> Mapping[str, Any]:
        """The definitions under top-level `secrets` or `configs`."""
        found: Mapping[str, Mapping[str, Any]] = self.document.get(kind) or {}
        return {
            name: {**definition, "file": as_written(definition["file"])} if "file" in definition else definition
            for name, definition in found.items()
        }

    def strings(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Every string in the model that mentions a reference, with the keys that lead to it.

        Extension fields (`x-...`) are left out: they are where anchors live, and mean nothing to Compose.
        """
        for section, content in self.document.items():
            if not section.startswith("x-") and section != "services":
                yield from _strings((section,), content)
        for service, content in self.services.items():
            yield from _strings(("services", service), content)


def _strings(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        text = as_written(value) if path[-1] in _PATH_KEYS else value
        if mentions_reference(text):
            yield path, text
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not key.startswith("x-"):
                yield from _strings((*path, key), inner)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _strings((*path, str(position)), inner)


def compose_of(docker: Sequence[str], *, only_local: bool) -> Compose:
    """Compose as it is run for a project.

    With `only_local` it fails where a file is to be fetched from elsewhere (see `needs_remote_files`).
    """
    from dso.compose.plugin import Compose

    return Compose(docker, dict.fromkeys(map(bytes.decode, _REMOTE_SWITCHES), "false") if only_local else None)


def start_reading(
    compose: Compose, command: ComposeCommand, stdin: int | None, *, flags: Sequence[str] = ()
) -> Running:
    """Start `docker compose config` for a command, and let it run while something else is done.

    Args:
        compose: what runs the command later, too.
        command: whose global flags and services count.
        stdin: a descriptor with the Compose file, for `-f -`.
        flags: more global flags (`dso.compose.files.ProjectFiles.flags`), so that what is read is what was looked at.

    Compose may resolve paths: with `--no-path-resolution` it looks for an `env_file` in the current
    directory instead of the project's. `as_written` gets references back.
    """
    words = ["config", "--format", "json", *(["--", *command.services] if command.services else [])]
    return compose.start([*command.globals, *flags, *words], stdin=stdin)


def needs_remote_files(error: ComposeFailedError) -> bool:
    """Whether Compose failed since `only_local` kept it from fetching an `include:`, `extends:` or `-f`."""
    return any(switch in error.stderr for switch in _REMOTE_SWITCHES)


def finish_reading(running: Running, command: ComposeCommand) -> Model:
    """The model, once Compose has written it.

    Raises:
        ComposeFailedError: Compose refuses the files.
        ComposeNotFoundError: there is no Compose v2.
    """
    from dso.system.json_fast import loads

    finished = running.wait()
    if finished.code != 0:
        raise_for_missing_compose(finished.stderr)
        raise ComposeFailedError(finished.code, finished.stderr)
    only = command.services if command.services and command.no_deps else None
    document: dict[str, Any] = loads(finished.stdout.decode())  # type: ignore[assignment]
    return Model(document, only)


_NO_COMPOSE = (  # what `docker` says of a command or flag it does not know
    "is not a docker command",
    "unknown command: docker compose",
    "unknown shorthand flag: 'f'",
    "unknown flag: --format",
)


def raise_for_missing_compose(stderr: bytes) -> None:
    """Tell "Docker has no such compose command" from Compose's own errors."""
    text = stderr.decode("utf-8", "replace")
    if any(sign in text for sign in _NO_COMPOSE):
        raise ComposeNotFoundError(
            f"this Docker has no Compose v2 plugin of version {MINIMUM_VERSION} or newer",
            hint="install docker-compose-plugin (Debian: docker-compose of trixie), then try `docker compose version`",
        )


def as_written(path: str) -> str:
    """The reference that Compose took for a relative path: `/project/dsofile:/a/b` was `dsofile://a/b`."""
    for scheme in (FILE_SCHEME, ENV_SCHEME):
        cleaned = scheme[:-1]
        _, found, rest = path.rpartition("/" + cleaned)
        if found:
            return scheme + rest
        if "{{" + cleaned in path:
            return path.replace("{{" + cleaned, "{{" + scheme)
    return path


def unescape(text: str) -> str:
    """`config` doubles every `$` it prints."""
    return text.replace("$$", "$")


def escape(text: str) -> str:
    """What Compose's interpolation turns back into the text."""
    return text.replace("$", "$$")
