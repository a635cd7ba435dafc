"""What a volume's name and definition have to be like."""

from __future__ import annotations

import json
import re

from dso.compose.template import parse_template
from dso.errors import ReferenceSyntaxError
from dso.protocol.agent import MAX_REQUEST_BYTES, VolumeSpec
from dso.protocol.reading import MessageError
from dso.protocol.volume import name_fault

MAX_TEMPLATE = 64 * 1024  # characters
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # as the Engine has it
_MAX_NAME = 255
_MAX_ID = 0xFFFFFFFE  # of users and groups; the one above means "leave it as it is" to chown(2)
_MAX_MODE = 0o777


class VolumeError(Exception):
    """A volume cannot be had as it was asked for; the text says why, and holds no value."""


def check_name(name: str) -> None:
    """Refuse what the Engine would refuse as a volume's name, or what leads out of our directory; VolumeError."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise VolumeError(
            f"{name[:40]!r} is no volume's name: letters, digits, `_`, `.` and `-`, first a letter or a digit"
        )


def check_spec(name: str, spec: VolumeSpec) -> None:
    """Refuse a definition that could not be served, or has something else than references in it.

    Raises:
        VolumeError: it names the file.
    """
    names = {file.name for file in spec.files}
    if len(names) != len(spec.files):
        raise VolumeError(f"volume {name}: two files have one name")
    for file in spec.files:
        fault = name_fault(file.name)
        if fault is None and (above := _directories_of(file.name) & names):
            fault = f"{above.pop()!r} cannot be a file and a directory"
        if fault is None and max(file.uid, file.gid) > _MAX_ID:
            fault = "there is no such owner"
        if fault is None and file.mode > _MAX_MODE:
            fault = f"its mode is not between 0 and {_MAX_MODE:o}"
        if fault is None:
            fault = _template_fault(file.template)
        if fault is not None:
            raise VolumeError(f"volume {name}: file {file.name[:80]!r}: {fault}")


def _directories_of(name: str) -> set[str]:
    return {name[:at] for at, letter in enumerate(name) if letter == "/"}


def normal(spec: VolumeSpec) -> VolumeSpec:
    """The same definition in the one form in which two can be compared."""
    return VolumeSpec(tuple(spec.files), tuple(spec.secrets))


def read_spec(text: str, option: str) -> VolumeSpec:
    """The definition in an option of `docker volume create`; VolumeError."""
    if len(text) > MAX_REQUEST_BYTES:
        raise VolumeError(f"the option `{option}` is longer than {MAX_REQUEST_BYTES} characters")
    try:
        return normal(VolumeSpec.from_json(json.loads(text)))
    except (ValueError, RecursionError, MessageError) as error:
        raise VolumeError(f"the option `{option}` cannot be read: {error}") from None


def _template_fault(template: str) -> str | None:
    if len(template) > MAX_TEMPLATE:
        return f"its template is longer than {MAX_TEMPLATE} characters"
    try:
        found = parse_template(template)
    except ReferenceSyntaxError as error:
        return error.message
    return None if found is not None else "its content has no reference; what is secret goes to a provider, not here"
