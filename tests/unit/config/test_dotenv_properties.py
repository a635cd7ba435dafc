"""What holds for every `.env` file."""

from hypothesis import example, given
from hypothesis import strategies as st

from dso.config.dotenv import decode, parse, quote
from dso.errors import EnvFileError

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
SOUP = st.lists(st.sampled_from([*"AX=:$-?+{}'\"\\ \t#\n\r09nc", "${", "export ", " #", "é", "\udcff"])).map("".join)


@given(VALUES, VALUES)
@example("\\'\\", "\\\\'$X\"")
def test_quoted_values_read_back_the_same(first: str, second: str) -> None:
    text = f"A={quote(first)}\nB={quote(second)}\n"
    assert parse(text, lookup={"X": "no"}.get) == {"A": first, "B": second}
    assert parse(text) == {"A": first, "B": second}


@given(st.binary())
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    _read(decode(content))


@given(SOUP)
def test_any_text_is_read_or_refused(text: str) -> None:
    _read(text)


def _read(text: str) -> None:
    try:
        values = parse(text, lookup={"X": "xv"}.get)
    except EnvFileError as error:
        assert error.hint  # noqa: PT017
    else:
        assert all(isinstance(value, str) for value in values.values())
