"""From the tree of a dso.yaml to values: text with its variables expanded, and a note of every fault.

Kinds (`dso.config.kinds`) say what a key takes, this module how any value is read.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.config.document import Mapping, Scalar, Sequence
from dso.config.faults import Fault, Unfit, shown
from dso.config.interpolation import ExpressionError, expand
from dso.paths import PRIVATE_VARIABLES
from dso.system.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType
    from typing import Any

    from dso.config.document import Node

_MAX_MESSAGE = 200
_MAX_VALUE = 16 * 1024


class Opaque(Exception):  # noqa: N818  # never leaves the package
    """A value that this reading must not expand, and which therefore stays unknown."""


class Place(NamedTuple):
    """A key as messages name it (`providers.vault.address`), and its line."""

    path: str
    line: int

    def key(self, name: str, line: int) -> Place:
        """A key below this one."""
        return Place(f"{self.path}.{shown(name)}" if self.path else shown(name), line)

    def item(self, index: int, line: int) -> Place:
        """An item of the list at this place, counted from 0."""
        return Place(f"{self.path}[{index}]", line)


class Values(dict[str, "Any"]):
    """The values of a section's keys, those that were fit; `nodes` and `lines` have every key the file has."""

    __slots__ = ("lines", "nodes", "place")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.nodes: dict[str, Node] = {}
        self.lines: dict[str, int] = {}

    def at(self, key: str) -> Place:
        """The place of a key that the file has."""
        return self.place.key(key, self.lines[key])


class Reader:
    """Reads values and gathers faults.

    `project` tells that the command line reads, which has not the agent's variables. `opaque` is on where
    they must not be looked up: the values that have any are left out. `private` is on where values could
    be credentials: messages then quote none.
    """

    __slots__ = ("_environment", "faults", "opaque", "private", "project")

    def __init__(self, environment: MappingType[str, str], faults: list[Fault], *, project: bool = False) -> None:
        self._environment = environment
        self.faults = faults
        self.project = project
        self.private = False
        self.opaque = False

    def fault(self, place: Place, message: str, hint: str = "", *, line: int = 0) -> None:
        """Note a fault, in the place's line unless another is given."""
        self.faults.append(Fault(line or place.line, place.path, message, hint))

    def text(self, node: Node, *, empty: bool = False) -> str:
        """A scalar's text with its variables expanded; Unfit, Opaque."""
        written = self.written(node, empty=empty)
        if len(written) > _MAX_VALUE:
            raise Unfit(f"is longer than {_MAX_VALUE // 1024} KiB", "no key takes as much; is a quote not closed?")
        if "\0" in written:
            raise Unfit("has a NUL character", "no key takes one")
        if "$" not in written:
            return written
        if self.opaque and has_variables(written):
            raise Opaque
        value = self._expanded(written)
        if not value and not empty:
            raise Unfit("is empty once its variables are expanded", "set the variable to something, or give a default")
        if "\0" in value or not _is_unicode(value):
            raise Unfit("is no UTF-8 text once its variables are expanded", "give the variable another value")
        return value

    def written(self, node: Node, *, empty: bool = False) -> str:
        """A scalar's text as it stands in the file; Unfit for lists, mappings and no value at all."""
        if isinstance(node, Sequence):
            raise Unfit("must be a single value, and is a list", "leave out the brackets or dashes")
        if isinstance(node, Mapping):
            raise Unfit("must be a single value, and is a mapping", "a value with braces or ': ' needs quotes")
        if node.is_null:
            raise Unfit("has no value", "give it one, or remove the key")
        if not node.text and not empty:
            raise Unfit("is empty", "give it a value, or remove the key")
        return node.text

    def quoted(self, node: Node | None) -> str:
        """How a message speaks of a value: by its text, unless that is nobody's business."""
        if self.private or not isinstance(node, Scalar) or has_variables(node.text):
            return "the value"
        return shown(node.text)

    def _looked_up(self, name: str) -> str | None:
        """The value of a variable; Unfit for one that no file may have."""
        if name in PRIVATE_VARIABLES:
            raise Unfit(f"takes the variable {name}, which is DSO's own and in no file", "write something else there")
        return self._environment.get(name)

    def _expanded(self, written: str) -> str:
        missing: list[str] = []
        try:
            value = expand(written, self._looked_up, missing.append, dso_yaml=True)
        except ExpressionError as error:
            raise _unfit(error) from None
        if missing:
            names = list(dict.fromkeys(missing))
            what = f"the variable {names[0]} is" if len(names) == 1 else f"the variables {', '.join(names)} are"
            raise Unfit(f"{what} not set", f"set it, or give it a default: ${{{names[0]}:-default}}")
        return value


def _unfit(error: ExpressionError) -> Unfit:
    if not error.variable:
        return Unfit(error.fault, "the forms are ${NAME}, ${NAME:-default} and ${NAME:?message}; $$ is a dollar sign")
    message = f"the variable {error.variable} is not set, or empty"
    if error.message and "$" not in error.message:
        message += f": {visible(error.message[:_MAX_MESSAGE])}"
    return Unfit(message, f"set {error.variable}, or give it a default: ${{{error.variable}:-default}}")


def has_variables(text: str) -> bool:
    """Whether text as written has a variable in it."""
    return "${" in text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
