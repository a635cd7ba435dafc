"""Every key of dso.yaml, and what it takes. docs/dso-yaml.md describes the same keys; a test compares."""

from __future__ import annotations

from dso.config.checks import is_absolute, is_backend_path, is_name, is_variable
from dso.config.faults import did_you_mean, shown
from dso.config.kinds import Choice, Kind, ListOf, MapOf, Mode, Text, Whole
from dso.config.provider_schema import ProviderKind
from dso.config.reading import has_variables
from dso.config.sections import AgentsOwn, Key, Section
from dso.protocol.backend_path import GRAMMAR
from dso.secret import is_segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dso.config.document import Node
    from dso.config.reading import Place, Reader, Values

VERSION = "1"
_MAX_ID = 2**32 - 2
_NAME_HINT = "segments of A-Z a-z 0-9 _ . - with / between them, none of them . or .."


class VersionKind(Kind):
    """The number of the format, as written."""

    __slots__ = ()

    def read(self, node: Node, place: Place, reader: Reader) -> str:  # noqa: D102
        version = reader.written(node)
        if version != VERSION:
            reader.fault(place, f"{reader.quoted(node)} is no version of dso.yaml this DSO knows", "write version: 1")
        return version


def _check_inject(values: Values, reader: Reader) -> None:
    if values.get("type") != "env":
        return
    for key in ("path", "uid", "gid", "mode"):
        if key in values.lines:
            reader.fault(values.at(key), "is for files, and the type is env", "write type: file, or remove it")


def _check_secret(values: Values, reader: Reader) -> None:
    inject = values.get("inject")
    if "inject" in values.lines and (inject is None or "type" not in inject):
        return  # a fault already
    if "mappings" in values:
        _check_mappings(values["mappings"], reader)
    if inject is not None and inject["type"] == "file":
        _check_file(values, inject, reader)
        return
    key = next((key for key in ("inject", "targets") if key in values.lines), None)
    if key is not None and "mappings" not in values.lines:
        reader.fault(
            values.at(key),
            "sets no variable without `mappings`",
            f"add mappings: {{FIELD: VARIABLE}}, or remove `{key}` if services refer to the secret as dso://NAME",
        )


def _check_file(values: Values, inject: Values, reader: Reader) -> None:
    if not {"mappings", "targets"} & values.lines.keys():
        reader.fault(
            values.at("inject"),
            "a file needs `targets`, or `mappings` to the variable that gets its path",
            "say which services get it: targets: {services: [api]}",
        )
    if "path" in inject and len(values.get("mappings", ())) > 1:
        reader.fault(
            inject.at("path"),
            "one path cannot be that of several files, and each of the mappings is one",
            "remove the path, or all mappings but one",
        )


def _check_mappings(mappings: Values, reader: Reader) -> None:
    first: dict[str, str] = {}
    for field, variable in mappings.items():
        if variable in first:
            message = f"{reader.quoted(mappings.nodes[field])} is mapped from {shown(first[variable])} already"
            reader.fault(mappings.at(field), message, "a variable can have one value only")
        first.setdefault(variable, field)


def _check_access(values: Values, reader: Reader) -> None:
    if not {"user", "users", "group", "groups"} & values.lines.keys():
        reader.fault(values.place, "the rule is for nobody", "add `user`, `users`, `group` or `groups`")


def _check_file_as_a_whole(values: Values, reader: Reader) -> None:
    """What concerns more than one section: names that occur twice, providers that do not exist."""
    named: dict[str, int] = {}
    for secret in values.get("secrets") or ():
        name = secret.get("name")
        if name in named:
            message = f"{reader.quoted(secret.nodes['name'])} is the name of the entry in line {named[name]} too"
            reader.fault(secret.at("name"), message, "give one of them another name")
        elif name is not None:
            named[name] = secret.lines["name"]
    if reader.project or ("providers" in values.lines and "providers" not in values):
        return  # the agent has further ones; or the section is faulty as a whole
    providers = list(values["providers"].lines) if "providers" in values else []
    if not providers:
        reader.fault(values.place, "the file has no `providers`", "add providers: {NAME: {type: vault, ...}}")
        return
    for secret in values.get("secrets") or ():
        if "provider" in secret and secret["provider"] not in providers:
            node = secret.nodes["provider"]
            near = "" if has_variables(reader.written(node)) else did_you_mean(secret["provider"], providers)
            hint = f"the providers are {', '.join(map(shown, providers))}"
            reader.fault(secret.at("provider"), f"{reader.quoted(node)} is no provider{near}", hint)


_TEXT = Text("printable text", str.isprintable)
_ABSOLUTE = Text("absolute path", is_absolute, hint="it begins with / and has no . or .. in it")
_NAME = Text("name a reference could have", is_name, hint=_NAME_HINT)
_PATH = Text("path of a secret", is_backend_path, hint=GRAMMAR)
_VARIABLE = Text("name of a variable", is_variable, hint="letters, digits and _, no digit first")
_ID = Whole(0, _MAX_ID)

INJECT = Section(
    "`inject`",
    {
        "type": Key(Choice("env", "file"), required=True),
        "path": Key(_ABSOLUTE),
        "uid": Key(_ID),
        "gid": Key(_ID),
        "mode": Key(Mode()),
    },
    check=_check_inject,
)
TARGETS = Section(
    "`targets`",
    {
        "services": Key(ListOf(_TEXT, "a list: [api, worker]")),
        "labels": Key(MapOf(Text("printable text", str.isprintable, empty=True), "labels: {tier: backend}")),
    },
)
SECRET = Section(
    "an entry of `secrets`",
    {
        "name": Key(_NAME, required=True),
        "provider": Key(_TEXT, required=True),
        "path": Key(_PATH),
        "version": Key(_PATH),
        "inject": Key(INJECT),
        "mappings": Key(
            MapOf(
                _VARIABLE,
                "mappings: {FIELD: VARIABLE}",
                what="name of a field",
                check=is_segment,
                hint="characters A-Z a-z 0-9 _ . - as in dso://NAME#FIELD",
            )
        ),
        "targets": Key(TARGETS),
    },
    check=_check_secret,
)
ACCESS = Section(
    "an entry of `access`",
    {
        "user": Key(_TEXT),
        "users": Key(ListOf(_TEXT, "a list: [ann, ben]")),
        "group": Key(_TEXT),
        "groups": Key(ListOf(_TEXT, "a list: [deploy, ops]")),
        "secrets": Key(ListOf(_TEXT, 'a list of patterns: ["prod/*"]'), required=True),
    },
    check=_check_access,
)
AGENT = Section(
    "`agent`",
    {
        "socket": Key(_ABSOLUTE),
        "log_level": Key(Choice("debug", "info", "warning", "error")),
        "log_format": Key(Choice("text", "json")),
        "plugin_dir": Key(AgentsOwn(_ABSOLUTE)),
        "state_dir": Key(AgentsOwn(_ABSOLUTE)),
        "runtime_dir": Key(AgentsOwn(_ABSOLUTE)),
        "volume_socket": Key(AgentsOwn(_ABSOLUTE)),
    },
)
PROVIDERS = MapOf(
    ProviderKind(),
    "providers: {NAME: {type: vault, ...}}",
    what="name for a provider",
    check=is_segment,
    hint="characters A-Z a-z 0-9 _ . -",
)
FILE = Section(
    "dso.yaml",
    {
        "version": Key(VersionKind(), required=True, example=VERSION),
        "providers": Key(AgentsOwn(PROVIDERS), null=True),
        "secrets": Key(ListOf(SECRET, "a list of entries: - name: ...", empty=True), null=True),
        "access": Key(AgentsOwn(ListOf(ACCESS, "a list of rules: - group: ...", empty=True))),
        "agent": Key(AGENT, null=True),
    },
    check=_check_file_as_a_whole,
)
