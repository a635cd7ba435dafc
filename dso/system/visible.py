"""Text that others wrote, as it may be printed: nothing in it can steer a terminal or pass for another line.

What is not printable stands as an escape, as in a Python literal: control characters (C0, DEL, C1), characters that
turn the direction of writing, invisible ones, and bytes that are not UTF-8. The codec `unicode_escape` does nearly
the same, but the frozen programs do not have it.
"""

from __future__ import annotations

_HINT = "  hint: "
_OURS = ("Error: ", _HINT, "[DSO] ")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_STRAY = range(0xDC80, 0xDD00)  # a byte that is not UTF-8, as `surrogateescape` has it
_BYTE, _PLANE = 0x100, 0x10000


def visible(text: str) -> str:
    """A name, a value or a message as part of one line: the ends of lines and tabs are escaped too."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def visible_lines(text: str) -> str:
    """Text of several lines: newlines and tabs stay as they are."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _escape(each) for each in text)


def visible_name(text: str, most: int = 0) -> str:
    """A name for a message: cut after `most` characters (0: never), and in quotes if it is empty or had to be escaped.

    Quotes tell that what stands in them is not quite what was written.
    """
    if most and len(text) > most:
        text = text[:most] + "..."
    return text if text and text.isprintable() else f"'{visible(text)}'"


def shell_word(text: str) -> str:
    """The text as one word of a shell, for a command that somebody may copy; what is not printable as bash has it."""
    if text.isprintable():
        plain = text and text.isascii() and all(each.isalnum() or each in "/._-+@%:=," for each in text)
        return text if plain else "'" + text.replace("'", "'\\''") + "'"
    quoted = (f"\\{each}" if each in "\\'" else each if each.isprintable() else _bytes_of(each) for each in text)
    return f"$'{''.join(quoted)}'"


def _bytes_of(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def visible_json(document: str) -> str:
    """A JSON document that means the same, in which strings have JSON's own escapes for what is not printable."""
    if document.isprintable():
        return document
    return "".join(each if each.isprintable() or each in "\n\t" else _escape_in_json(each) for each in document)


def foreign_lines(text: str) -> str:
    """What another program said, in its lines; none of them, but the first, can pass for one of ours."""
    first, *others = text.split("\n")
    parts = [visible_lines(first)]
    for line in others:
        parts.append("\\n" if line.startswith(_OURS) else "\n")
        parts.append(visible_lines(line))
    return "".join(parts)


def error_text(message: str, hint: str) -> str:
    """An error as programs print it: `Error: what happened`, and on the next line what to do next.

    Further lines of a message begin with two blanks. A line end before anything else came with a name or a value,
    and is escaped, so that neither can pass for an error or a hint of its own.
    """
    first, *others = message.split("\n")
    parts = [f"Error: {visible(first)}"]
    for line in others:
        parts.append("\n" if line.startswith("  ") and not line.startswith(_HINT) else "\\n")
        parts.append(visible(line))
    parts.extend(f"\n{_HINT}{visible(line)}" for line in (hint.split("\n") if hint else ()))
    return "".join(parts)


def _escape(character: str) -> str:
    code = ord(character)
    if code in _STRAY:
        code -= 0xDC00
    if code < _BYTE:
        return _NAMED.get(character) or f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _PLANE else f"\\U{code:08x}"


def _escape_in_json(character: str) -> str:
    code = ord(character)
    if code < _PLANE:
        return f"\\u{code:04x}"
    code -= _PLANE
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
