"""Values with references in them."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dso.compose.template import mentions_reference, parse_template
from dso.errors import ReferenceSyntaxError
from dso.secret import SecretRef


def render(text):
    return parse_template(text).render(lambda reference: f"<{reference.path}>".encode())


def test_whole_value_is_one_reference():
    template = parse_template("dso://shop/api_key")
    assert template.whole.path == "shop/api_key"


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("postgres://app:{{dso://shop/pw}}@db:5432/shop", b"postgres://app:<shop/pw>@db:5432/shop"),
        ("{{dso://a/b}}{{dso://c/d}}", b"<a/b><c/d>"),
        ("{{ dso://a/b }}", b"<a/b>"),
        ("{{dso://a/b}} and {{.Node.Hostname}} {{", b"<a/b> and {{.Node.Hostname}} {{"),
        ("{{.X}} {{dso://a/b}}", b"{{.X}} <a/b>"),
    ],
)
def test_references_in_braces_are_replaced_and_all_else_is_kept(text, rendered):
    assert render(text) == rendered


@pytest.mark.parametrize(
    "text", ["x dso://a/b", "{{{dso://a/b}}}", "dso://a/b c", "http://h/?u=dso://a/b", "{{dso://a/b}} dso://c/d"]
)
def test_reference_among_text_without_braces_is_refused(text):
    with pytest.raises(ReferenceSyntaxError):
        parse_template(text)


@pytest.mark.parametrize("text", ["", "plain", "{{x}}", "mydso://a/b", "x.dso://a", "dso:/a"])
def test_text_without_reference_is_no_template(text):
    assert parse_template(text) is None
    assert not mentions_reference(text)


@given(st.text(), st.text())
def test_literal_parts_survive_to_the_byte(before, after):
    assume("{" not in before + after)
    assume("://" not in before + after)
    template = parse_template(before + " {{dso://a/b}} " + after)
    assert template.render(lambda _: b"V") == f"{before} V {after}".encode()


def test_braces_without_end_take_no_time_without_end() -> None:
    hostile = "{{dso://a/b}}" + "{{" * 500_000 + "}}"
    found = parse_template(hostile)
    assert found is not None
    assert [str(reference) for reference in found.references] == ["dso://a/b"]
    assert found.parts[1] == "{{" * 500_000 + "}}"


def test_braces_around_other_things_stay() -> None:
    found = parse_template("{{ x }} {{{{ dso://a/b }} }} {{")
    assert found is not None
    assert found.parts == ("{{ x }} {{", SecretRef.parse("dso://a/b"), " }} {{")


def naive_parts(text):
    """The grammar as it reads, in time that grows with the square of the text."""
    parts: list[str | SecretRef] = [""]
    rest = text
    while rest:
        literal, opened, behind = rest.partition("{{")
        inside, closed, after = behind.partition("}}")
        if not (opened and closed):
            parts[-1] += rest
            break
        if inside.strip().startswith(("dso://", "dsofile://")):
            parts[-1] += literal
            parts += [SecretRef.parse(inside.strip()), ""]
            rest = after
        else:
            parts[-1] += literal + opened
            rest = behind
    if any(mentions_reference(part) for part in parts if isinstance(part, str)):
        raise ReferenceSyntaxError("among other text")
    return tuple(part for part in parts if part)


@given(
    st.lists(
        st.sampled_from(
            ["{", "{{", "}", "}}", " ", "\t", "x", "{{dso://a/b}}", "dsofile://c", "dso://", "a/b", "dso://"]
        )
    )
)
def test_every_text_is_taken_apart_as_the_grammar_reads(pieces):
    text = "".join(pieces)
    assume(mentions_reference(text) and not text.startswith(("dso://", "dsofile://")))
    try:
        expected = naive_parts(text)
    except ReferenceSyntaxError:
        with pytest.raises(ReferenceSyntaxError):
            parse_template(text)
    else:
        assert parse_template(text).parts == expected


@pytest.mark.parametrize("piece", ["{{", "{{ ", "{{}}", "{", "}}{{", "{{x}} ", "  {{\t"])
def test_hostile_text_takes_time_in_proportion_to_its_length(piece):
    text = piece * (1024 * 1024 // len(piece))  # the square of it would be an hour and more
    reference = SecretRef.parse("dso://a/b")
    parts = parse_template("{{dso://a/b}} " + text + "}}").parts
    assert parts == (reference, " " + text + "}}")
