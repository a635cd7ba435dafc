"""Compose's variable expressions: `$NAME`, `${NAME}`, `${NAME:-default}` and their like.

What Compose 2.26 does was found by trying it, and the tests compare against the real one:

    $$                  a dollar sign
    $NAME ${NAME}       the variable, or nothing when it is not set
    ${NAME-text}        text when NAME is not set         ${NAME:-text}   or when it is empty
    ${NAME+text}        text when NAME is set, else ""    ${NAME:+text}   and not empty
    ${NAME?message}     an error when NAME is not set     ${NAME:?message}  or when it is empty

`text` is itself expanded, and is so even when it is then not used. An expression ends at the brace
that balances its own (every brace between counts, but not one right after an opening one), or, where
none does, at the last one of its line; it never goes over the end of a line. A dollar sign before
anything else is a dollar sign, except that `${` must begin a complete expression.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Callable

# Two letters outside ASCII fold to s and k, and Compose matches names without regard to case.
_NAME_START = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_\u017f\u212a")
_NAME_CHARACTERS = _NAME_START | frozenset("0123456789")
_OPERATORS = frozenset("-+?")
MAX_EXPRESSIONS = 10_000  # in one text; looking for the end of each takes as long as the line is


class ExpressionError(Exception):
    """A value that cannot be expanded: `fault` and `hint` say why and what to do, without quoting any of it.

    `variable` is the required variable that is not set, "" where the fault is another; `message` is what
    was written after its `?`, not expanded.
    """

    def __init__(self, fault: str, hint: str, variable: str = "", message: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.hint = hint
        self.variable = variable
        self.message = message


def _incomplete() -> ExpressionError:
    return ExpressionError(
        "has a ${ that begins no complete variable expression",
        hint="write $$ for a dollar sign that is meant as such, or put the value in single quotes",
    )


def _required(variable: str, message: str) -> ExpressionError:
    return ExpressionError(
        "requires a variable that is not set, with ${NAME?...} or ${NAME:?...}",
        hint="set the variable, or give the expression a default: ${NAME:-default}",
        variable=variable,
        message=message,
    )


def expand(
    text: str,
    lookup: Callable[[str], str | None],
    unset: Callable[[str], None] | None = None,
    *,
    dso_yaml: bool = False,
) -> str:
    """Text with its expressions replaced.

    Args:
        text: what was written.
        lookup: a variable's value, or None when it is not set.
        unset: called with the name of every variable that is not set where nothing was written to
            stand in for it; Compose warns then, and takes the empty string.
        dso_yaml: the rules of dso.yaml, which differ in two points: `$NAME` without braces is no
            expression (it is more likely part of a password), and what a `text` needs that is not used is
            of no account: in `${A:-${B:?message}}` B is required only when A is not set.

    Raises:
        ExpressionError: a malformed expression, or a required variable that is not set.
    """
    if "$" not in text:
        return text
    if text.count("$") > MAX_EXPRESSIONS:
        raise ExpressionError(f"has more than {MAX_EXPRESSIONS} dollar signs", hint="write it in several variables")
    try:
        return _expand(text, lookup, unset, dso_yaml=dso_yaml)
    except RecursionError:
        raise ExpressionError("nests variable expressions too deeply", hint="write it in several variables") from None


def has_expression(text: str) -> bool:
    """Whether text has a `$NAME`, a `${` or a `$$`: something Compose would change."""
    at = text.find("$")
    while at >= 0:
        following = text[at + 1 : at + 2]
        if following in _NAME_START or following in ("$", "{"):
            return True
        at = text.find("$", at + 1)
    return False


def _expand(
    text: str, lookup: Callable[[str], str | None], unset: Callable[[str], None] | None, *, dso_yaml: bool
) -> str:
    pieces: list[str] = []
    done = 0
    while (at := text.find("$", done)) >= 0:
        pieces.append(text[done:at])
        following = text[at + 1 : at + 2]
        if following == "$":
            done = at + 2
            pieces.append("$")
        elif following in _NAME_START and not dso_yaml:
            done = _name_end(text, at + 1)
            pieces.append(_value(text[at + 1 : done], lookup, unset))
        elif following == "{":
            done = _braced_end(text, at)
            pieces.append(_braced(text[at + 2 : done - 1], lookup, unset, dso_yaml=dso_yaml))
        else:
            done = at + 1
            pieces.append("$")
    pieces.append(text[done:])
    return "".join(pieces)


def _name_end(text: str, start: int) -> int:
    end = start
    while end < len(text) and text[end] in _NAME_CHARACTERS:
        end += 1
    return end


def _value(name: str, lookup: Callable[[str], str | None], unset: Callable[[str], None] | None) -> str:
    value = lookup(name)
    if value is None and unset is not None:
        unset(name)
    return value or ""


def _braced_end(text: str, start: int) -> int:
    """The index after the closing brace of the expression whose dollar sign is at `start`."""
    name = start + 2
    end = _name_end(text, name)
    if end == name or text[name] not in _NAME_START:
        raise _incomplete()
    if text[end : end + 1] == "}":
        return end + 1
    operator = end + 1 if text[end : end + 1] == ":" else end
    if text[operator : operator + 1] not in _OPERATORS:
        raise _incomplete()
    line_end = text.find("\n", operator)
    last = text.rfind("}", operator, line_end if line_end >= 0 else len(text))
    if last < 0:
        raise _incomplete()
    depth = 1
    index = operator + 1
    while index <= last:
        if text[index] == "{":
            depth += 1
            index += 1  # Compose does not look at the character after a brace
        elif text[index] == "}":
            depth -= 1
            if not depth:
                return index + 1
        index += 1
    return last + 1


def _braced(
    content: str, lookup: Callable[[str], str | None], unset: Callable[[str], None] | None, *, dso_yaml: bool
) -> str:
    """What stands for `${content}`; `_braced_end` has seen that it has the right form."""
    end = _name_end(content, 0)
    name = content[:end]
    if end == len(content):
        return _value(name, lookup, unset)
    empty_counts = content[end] == ":"
    operator = content[end + empty_counts]
    written = content[end + empty_counts + 1 :]
    value = lookup(name)
    is_set = bool(value) if empty_counts else value is not None
    if dso_yaml and is_set != (operator == "+"):
        text = _expand(written, lambda _name: "set", None, dso_yaml=dso_yaml)  # only whether it is well formed counts
    else:
        text = _expand(written, lookup, unset, dso_yaml=dso_yaml)
    if operator == "+":
        return text if is_set else ""
    if is_set:
        return value or ""
    if operator == "?":
        raise _required(name, written)
    return text
