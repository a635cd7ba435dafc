"""The `.env` parser and the real Compose say the same about every file, or both refuse it."""

import json
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from dso.config.dotenv import parse, quote
from dso.errors import EnvFileError

ENVIRONMENT = {"X": "xv", "EMPTY": "", "D": "$X", "A": "Aenv"}
FIXTURES = os.path.join(os.path.dirname(__file__), "../fixtures/dotenv/cases.json")

Values = dict[str, str] | None
Example = TypeVar("Example")


def compose_config(directory: str, model: object, *flags: str) -> dict[str, dict[str, str]] | None:
    """Every service's environment as `docker compose config` gives it; None when it refuses."""
    with open(f"{directory}/compose.yaml", "w", encoding="utf-8") as stream:
        json.dump(model, stream)
    done = subprocess.run(
        ["docker", "compose", *flags, "-f", f"{directory}/compose.yaml", "config", "--format", "json"],
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **ENVIRONMENT},
        cwd=directory,
        check=False,
    )
    if done.returncode:
        return None
    services = json.loads(done.stdout)["services"]
    return {
        name: {key: value.replace("$$", "$") for key, value in (service.get("environment") or {}).items()}
        for name, service in services.items()
    }


def what_compose_reads(texts: list[str]) -> list[dict[str, str]] | None:
    """The variables of each text as an `env_file`, all in one call; None when Compose refuses any."""
    with tempfile.TemporaryDirectory() as directory:
        services = {}
        for number, text in enumerate(texts):
            with open(f"{directory}/{number}.env", "wb") as stream:
                stream.write(text.encode("utf-8", "surrogateescape"))
            services[f"s{number}"] = {"image": "none", "env_file": [f"{number}.env"]}
        found = compose_config(directory, {"name": "dotenv", "services": services})
    return None if found is None else [found[f"s{number}"] for number in range(len(texts))]


def what_we_read(text: str) -> Values:
    try:
        values = parse(text, lookup=ENVIRONMENT.get)
    except EnvFileError:
        return None
    # Compose's JSON cannot hold other bytes than UTF-8, and neither can the Engine's API.
    return {key: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for key, value in values.items()}


def assert_same(texts: list[str]) -> None:
    ours = {text: what_we_read(text) for text in texts}
    accepted = [text for text, values in ours.items() if values is not None]
    refused = [text for text, values in ours.items() if values is None]
    theirs = what_compose_reads(accepted)
    if theirs is None:
        wrong = [text for text in accepted if what_compose_reads([text]) is None]
        raise AssertionError(f"Compose refuses {wrong}")
    different = [
        (text, theirs_of, ours[text])
        for text, theirs_of in zip(accepted, theirs, strict=True)
        if theirs_of != ours[text]
    ]
    assert not different, "text, Compose's reading, ours"
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(what_compose_reads, [[text] for text in refused]))
    assert [text for text, answer in zip(refused, answers, strict=True) if answer is not None] == []


def test_fixtures_hold_what_compose_says_today() -> None:
    with open(FIXTURES, encoding="utf-8") as stream:
        assert_same([text for text, _ in json.load(stream)])


NAMES = st.sampled_from(["A", "B", "C_1", "a.b-c", "X", "é", "exportX", "1K"])
SEPARATORS = st.sampled_from(["=", "=", "=", " = ", ": ", ":", "=\t", "\n", "\t="])
PIECES = st.sampled_from(
    [
        *"ab =:$-?+{}'\"\\#\t09é",
        *(
            "${",
            "}",
            "$X",
            "${X}",
            "${NO",
            "${A:-",
            "${EMPTY:+",
            "$$",
            "\\$",
            "\\n",
            "\\\\",
            "\\0044",
            "\\0",
            "\\'",
            '\\"',
        ),
        *("x\ny", "\r\n", " #", "\xa0", "\u2003", "\x85", "\udcff", "\ufeff", "\u212a"),
    ]
)
SOUP = st.lists(PIECES, max_size=8).map("".join)
BARE = SOUP.map(lambda text: text.replace("\n", "").replace("'", "").replace('"', ""))
DOUBLE = SOUP.map(lambda text: '"' + text.replace('"', '\\"') + '"')
SINGLE = SOUP.map(lambda text: "'" + text.replace("'", "\\'") + "'")
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", " # it's\n", "\n#c\n", "", " ", ";"])
LINES = st.tuples(
    st.sampled_from(["", "", "", "export ", " ", "export\t"]), NAMES, SEPARATORS, BARE | DOUBLE | SINGLE, ENDS
)
FILES = st.lists(LINES.map("".join), max_size=3).map("".join) | SOUP.map("A=".__add__)

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")) | SOUP.map(
    lambda text: text.replace("\udcff", "")
)


def examples(strategy: st.SearchStrategy[Example], count: int) -> list[Example]:
    """The same `count` different examples every time, for one look at Compose instead of one an example."""
    found: list[Example] = []

    @settings(max_examples=count, derandomize=True, database=None)
    @given(strategy)
    def collect(example: Example) -> None:
        found.append(example)

    collect()
    return found


def test_generated_files_are_read_as_compose_reads_them() -> None:
    assert_same(examples(FILES, 400))


def test_compose_reads_quoted_values_unchanged() -> None:
    values = [{f"N{number}": value for number, value in enumerate(found)} for found in examples(st.lists(VALUES), 400)]
    texts = ["".join(f"{name}={quote(value)}\n" for name, value in variables.items()) for variables in values]
    assert what_compose_reads(texts) == values


def test_project_env_files_are_read_alike() -> None:
    """`--env-file` and `.env` have the same grammar as `env_file`; only what the values are for differs."""
    text = "P=${X}-$Q\nQ='$X'\nR=\"a\\tb$Q\"\nS=$A # c\n"
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/prod.env", "w", encoding="utf-8") as stream:
            stream.write(text)
        service = {"image": "none", "environment": {name: f"${{{name}}}" for name in "PQRS"}}
        config = partial(compose_config, directory, {"name": "dotenv", "services": {"s": service}})
        assert config("--env-file", f"{directory}/prod.env") == {"s": parse(text, lookup=ENVIRONMENT.get)}
