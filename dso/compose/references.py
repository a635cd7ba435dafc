"""Where a stack's references are: per service, which variable or file wants which secret."""

from __future__ import annotations

from typing import NamedTuple

from dso.compose.model import unescape
from dso.compose.template import Template, mentions_reference, parse_template
from dso.errors import ReferencePlaceError, ReferenceSyntaxError
from dso.paths import CONTAINER_SECRETS_DIR
from dso.secret import GRAMMAR, SecretRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from dso.compose.model import Model

DEFAULT_MODE = 0o444  # as Compose does
GRANT_KINDS = ("secrets", "configs")


class FileSecret(NamedTuple):
    """A file one service gets.

    `name` is its path inside the service's volume; `target` its path in the container when it is
    granted by `secrets:` or `configs:`, None when it is found under /run/secrets/dso; `label` says
    what it is called in messages.
    """

    name: str
    target: str | None
    template: Template
    uid: int
    gid: int
    mode: int
    label: str

    @property
    def content_references(self) -> tuple[SecretRef, ...]:
        """The references whose values are its content; a dsofile:// in a text stands for a path."""
        whole = self.template.whole
        return (whole,) if whole else tuple(each for each in self.template.references if not each.is_file)


class ServiceSecrets(NamedTuple):
    """Everything one service gets from DSO.

    `environment` maps variables to templates; `kept` holds, for each kind of which DSO takes over
    some grants, the grants that stay Compose's own.
    """

    service: str
    environment: dict[str, Template]
    files: tuple[FileSecret, ...]
    kept: dict[str, list[dict[str, Any]]]

    def variable_requests(self) -> dict[SecretRef, str]:
        """Each reference whose value a variable needs, with the place that wants it."""
        found: dict[SecretRef, str] = {}
        for variable, template in self.environment.items():
            for reference in template.references:
                if not reference.is_file:
                    found.setdefault(reference, f"service {self.service}, variable {variable}")
        return found

    def file_requests(self) -> dict[SecretRef, str]:
        """Each reference whose value a file needs, with the place that wants it."""
        found: dict[SecretRef, str] = {}
        for file in self.files:
            for reference in file.content_references:
                found.setdefault(reference, f"service {self.service}, {file.label}")
        return found


def container_file_name(reference: SecretRef) -> str:
    """The name of a `dsofile://` secret under /run/secrets/dso: its path with `.` for `/`."""
    field = f".{reference.field}" if reference.field is not None else ""
    version = f"@{reference.version}" if reference.version is not None else ""
    return reference.path.replace("/", ".") + field + version


def container_path(reference: SecretRef) -> str:
    """What a variable with a `dsofile://` reference becomes."""
    return f"{CONTAINER_SECRETS_DIR}/{container_file_name(reference)}"


def collect(model: Model, variables: Callable[[], Mapping[str, str]] = dict) -> list[ServiceSecrets]:
    """The references of every service in the model, services without any left out.

    `variables` gives the variables Compose interpolates with; it is called only if a secret or config
    takes its content from one.

    Raises:
        ReferenceSyntaxError: malformed references, all of them in one error.
        ReferencePlaceError: references where DSO does not serve them, all of them in one error.
    """
    reader = _Reader(model, variables)
    found = [reader.read(service) for service in model.services]
    reader.check_places()
    if reader.malformed:
        raise ReferenceSyntaxError(_several(reader.malformed), hint=f"the form is {GRAMMAR}")
    if reader.misplaced:
        raise ReferencePlaceError(
            _several(reader.misplaced),
            hint="DSO serves references in a service's environment, in `file:` of top-level secrets and configs "
            "(dsofile://), and in `content:` of configs",
        )
    return [secrets for secrets in found if secrets.environment or secrets.files]


class _Reader:
    """Reads services one by one and gathers what is wrong with them, to be told at once."""

    def __init__(self, model: Model, variables: Callable[[], Mapping[str, str]]) -> None:
        self.model = model
        self.variables = variables
        self.malformed: list[str] = []
        self.misplaced: list[str] = []
        self.sources = {kind: self._sources(kind) for kind in GRANT_KINDS}

    def _template(self, text: str, place: str) -> Template | None:
        try:
            return parse_template(unescape(text))
        except ReferenceSyntaxError as error:
            self.malformed.append(f"{place}: {error.message}")
            return None

    def _sources(self, kind: str) -> dict[str, Template]:
        """Top-level secrets or configs that hold references."""
        found: dict[str, Template] = {}
        for name, definition in self.model.top_level(kind).items():
            variable = definition.get("environment")
            if variable and mentions_reference(self.variables().get(variable, "")):
                self.misplaced.append(f"{kind}.{name}.environment: the variable {variable} holds a reference")
            for key in ("file", "content") if kind == "configs" else ("file",):
                text = definition.get(key)
                template = self._template(text, f"{kind}.{name}.{key}") if isinstance(text, str) else None
                if template is None:
                    continue
                if key == "file" and not (template.whole and template.whole.is_file):
                    self.misplaced.append(f"{kind}.{name}.file takes a dsofile:// reference and nothing else")
                else:
                    found[name] = template
        return found

    def read(self, service: str) -> ServiceSecrets:
        definition = self.model.services[service]
        environment: dict[str, Template] = {}
        for variable, text in (definition.get("environment") or {}).items():
            template = self._template(text, f"service {service}, variable {variable}") if text else None
            if template is not None:
                environment[variable] = template
        owner = numeric_user(definition.get("user"))
        files, kept = self._granted(service, definition, owner)
        for template in (*environment.values(), *(file.template for file in files if not file.template.whole)):
            files += [_plain_file(reference, owner) for reference in template.references if reference.is_file]
        return ServiceSecrets(service, environment, self._unique(service, files), kept)

    def _granted(
        self, service: str, definition: Mapping[str, Any], owner: tuple[int, int]
    ) -> tuple[list[FileSecret], dict[str, list[dict[str, Any]]]]:
        files: list[FileSecret] = []
        kept: dict[str, list[dict[str, Any]]] = {}
        for kind in GRANT_KINDS:
            grants = definition.get(kind) or []
            ours = [grant for grant in grants if grant["source"] in self.sources[kind]]
            if ours:
                kept[kind] = [grant for grant in grants if grant not in ours]
            for grant in ours:
                files.append(_granted_file(kind, grant, self.sources[kind][grant["source"]], owner))
                self.malformed += [
                    f"service {service}, {kind[:-1]} {grant['source']}: {key} {grant[key]!r} is no number"
                    for key in ("uid", "gid")
                    if grant.get(key) and not _is_number(grant[key])
                ]
        for secret in (definition.get("build") or {}).get("secrets") or []:
            if secret["source"] in self.sources["secrets"]:
                self.misplaced.append(f"service {service}: build.secrets gets {secret['source']!r}")
        return files, kept

    def _unique(self, service: str, files: list[FileSecret]) -> tuple[FileSecret, ...]:
        """Files by name; the same name from two references is an error, a second grant gets its own name."""
        found: dict[str, FileSecret] = {}
        for file in files:
            name, count = file.name, 1
            while file.target is not None and name in found:
                count += 1
                name = f"{file.name}~{count}"
            former = found.setdefault(name, file._replace(name=name))
            if former.template.references != file.template.references:
                self.malformed.append(
                    f"service {service}: {former.template.text} and {file.template.text} would be the same file "
                    f"{CONTAINER_SECRETS_DIR}/{name}"
                )
        return tuple(found.values())

    def check_places(self) -> None:
        for path, text in self.model.strings():
            if not self._is_served(path):
                self.misplaced.append(f"{_place(path)} has the reference {text[:80]!r}")

    def _is_served(self, path: tuple[str, ...]) -> bool:
        if path[0] == "services":
            return path[2] == "environment"
        return path[0] in GRANT_KINDS and len(path) == 3 and path[2] in ("file", "content")  # noqa: PLR2004


def _plain_file(reference: SecretRef, owner: tuple[int, int]) -> FileSecret:
    text = str(reference)
    label = f"file {container_path(reference)}"
    return FileSecret(container_file_name(reference), None, Template(text, (reference,)), *owner, DEFAULT_MODE, label)


def _granted_file(kind: str, grant: Mapping[str, Any], template: Template, owner: tuple[int, int]) -> FileSecret:
    source: str = grant["source"]
    base = "/run/secrets/" if kind == "secrets" else "/"
    target = unescape(grant.get("target") or source)
    return FileSecret(
        # `~` is in no reference, so a granted file never has the name of a plain one
        name=f"~{kind}/{source}",
        target=target if target.startswith("/") else base + target,
        template=template,
        uid=int(grant["uid"]) if _is_number(grant.get("uid")) else owner[0],
        gid=int(grant["gid"]) if _is_number(grant.get("gid")) else owner[1],
        mode=_mode(grant.get("mode")),
        label=f"{kind[:-1]} {source}",
    )


def _mode(value: object) -> int:
    """Compose 2.26 prints the mode as a number, later ones as a string of octal digits."""
    if value is None:
        return DEFAULT_MODE
    return int(str(value), 8 if isinstance(value, str) else 10)


def numeric_user(user: object) -> tuple[int, int]:
    """Who owns a service's files: `user: "1000:1000"`; a name, which only the image could translate, counts as root."""
    uid, _, gid = str(user or "").partition(":")
    return (int(uid) if _is_number(uid) else 0, int(gid) if _is_number(gid) else 0)


def _is_number(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit()


def _place(path: tuple[str, ...]) -> str:
    if path[0] == "services":
        return f"service {path[1]}: {'.'.join(path[2:])}"
    return ".".join(path)


def _several(faults: list[str]) -> str:
    return faults[0] if len(faults) == 1 else f"{len(faults)} faults:\n  " + "\n  ".join(faults)
