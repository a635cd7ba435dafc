"""JSON without the import of `json`, which costs 10 ms at start-up since it pulls `re`.

The same C scanner and string encoder as the standard library's are used. Anything unusual is left
to the standard library itself, so that results and errors are the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_SPACE = " \t\n\r"


class Number(str):
    """A JSON number as it was written: `1.0`, `1e3`, `12345678901234567890`."""

    __slots__ = ()


def loads(text: str) -> object:
    """What `json.loads` gives, except that NaN and Infinity, which JSON has not, are refused.

    Raises:
        ValueError: the text is not JSON, or it is nested too deeply.
    """
    return _loads(text, float, int)


def loads_literal(text: str) -> object:
    """As `loads`, with every number a `Number`, which keeps the digits as they were written."""
    return _loads(text, Number, Number)


def dumps(value: object, *, ascii_only: bool = True) -> str:
    """Compact JSON, without spaces, keys in their order; what `json.dumps` gives with those separators.

    `Number` is written as it is. Dictionary keys must be strings. Without `ascii_only` other
    characters stand for themselves.

    Raises:
        TypeError: the value has no form in JSON.
    """
    quote = _quote_ascii() if ascii_only else _quote()
    parts: list[str] = []
    _append(value, parts.append, quote)
    return "".join(parts)


def marks(text: bytes) -> int:
    """How many commas and opening brackets a text has: more than that, and one, no JSON text of it has values."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def has_more_values(text: bytes, most: int) -> bool:
    """Whether a text, if it is JSON, has more values than this, found out at a small part of what parsing costs."""
    if len(text) <= most or marks(text) < most:
        return False
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")  # no quote is left that does not begin or end a string
    if bare.count(b'"') > 4 * (most + 1):  # there is at most a key for each value, and each has two of them
        return True
    return sum(map(marks, bare.split(b'"')[::2])) >= most


def _quote_ascii() -> Callable[[str], str]:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    return encode_basestring_ascii


def _quote() -> Callable[[str], str]:
    try:
        from _json import encode_basestring
    except ImportError:
        from json.encoder import encode_basestring
    return encode_basestring


def _loads(text: str, parse_float: Callable[[str], object], parse_int: Callable[[str], object]) -> object:
    try:
        return _scanned(text, parse_float, parse_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _scanned(text: str, parse_float: Callable[[str], object], parse_int: Callable[[str], object]) -> object:
    stripped = text.strip(_SPACE)
    try:
        from _json import make_scanner

        value, end = make_scanner(_Context(parse_float, parse_int))(stripped, 0)  # type: ignore[arg-type]
    except (ImportError, StopIteration, SystemError, ValueError):
        pass  # the standard library words the error, or does it in pure Python
    else:
        if end == len(stripped):
            return value
    import json

    return json.loads(text, parse_float=parse_float, parse_int=parse_int, parse_constant=_refuse)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


class _Context:
    """What the scanner asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_constant = staticmethod(_refuse)

    def __init__(self, parse_float: Callable[[str], object], parse_int: Callable[[str], object]) -> None:
        self.parse_float = parse_float
        self.parse_int = parse_int


def _append(value: object, write: Callable[[str], object], quote: Callable[[str], str]) -> None:
    if value is None or isinstance(value, bool):
        write("null" if value is None else "true" if value else "false")
    elif isinstance(value, Number):
        write(value)
    elif isinstance(value, str):
        write(quote(value))
    elif isinstance(value, int):
        write(str(value))
    elif isinstance(value, list | tuple):
        separator = "["
        for item in value:
            write(separator)
            _append(item, write, quote)
            separator = ","
        write("]" if value else "[]")
    elif isinstance(value, dict):
        separator = "{"
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a JSON object's key must be a string, not {type(key).__name__}")
            write(separator + quote(key) + ":")
            _append(item, write, quote)
            separator = ","
        write("}" if value else "{}")
    else:
        import json

        write(json.dumps(value))
