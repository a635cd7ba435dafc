"""Between a project and the vault: what its directory was granted, and the question when it asks for more."""

from __future__ import annotations

import os

from dso import paths
from dso.cli.grants.wording import bullets, command, for_directory, granted, names_of, one_line, place
from dso.errors import NotGrantedError
from dso.grants.coverage import weakness
from dso.grants.names import allowed_by, narrow
from dso.grants.store import Coverage, Grants, grant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dso.compose.files import ProjectFiles
    from dso.grants.coverage import Weakness
    from dso.vault.resolver import Wish


class ProjectGate:
    """What one project may have of the vault.

    It is judged by the directories its Compose files come from, which it cannot choose, and never by its name, which
    it can. What comes from elsewhere than this machine has no directory: the user is asked each time.
    """

    def __init__(
        self,
        project: str,
        files: ProjectFiles,
        *,
        environment: Mapping[str, str] = os.environ,
        ask: Callable[[str], bool | None] | None = None,
        may_tell: bool = False,
    ) -> None:
        """Nothing is read yet.

        Args:
            project: the project's name, for messages.
            files: where its Compose files are.
            environment: where DSO_ALLOW is looked up: the process's own, never a `.env` file.
            ask: puts a question to the user, None when nobody can be asked; the terminal by default.
            may_tell: whether errors may name what the vault has, as nobody but the user reads them.

        Raises:
            UsageError: DSO_ALLOW is malformed.
        """
        self._project = project
        self._files = files
        self._ask = ask
        self._may_tell = may_tell
        self._allowed = allowed_by(environment)
        self._coverage: Coverage | None = None
        self._agreed: frozenset[str] = frozenset()

    def allows(self, name: str) -> bool:
        """Whether the project may have the secret with this full name, be there one or not.

        Raises:
            what `Grants.load` raises.
        """
        if self._allowed.allows(name) or name in self._agreed:
            return True
        if self._coverage is None:
            self._coverage = Coverage() if not self._has_directory else Grants.load().at_all(self._files.directories)
        return self._coverage.allows(name)

    def admit(self, wishes: Sequence[Wish]) -> None:
        """Ask on the terminal whether the project may have these, and record that it may.

        The answer is not for directories that an env file of the project's brought in from elsewhere: a grant to one
        would reach every project below it. The user has to name them.

        Raises:
            NotGrantedError: it may not, nobody can be asked, or a grant to its directory would not count.
            FileAccessError: the answer cannot be recorded.
        """
        wanted = narrow(wish.name for wish in wishes)
        own = [each for each in self._files.directories if each not in self._files.foreign]
        question = f"Grant it {granted(wanted)}{_below_others(own)}, now and from now on?"
        if self._has_directory:
            self._refuse_weak_directories(wishes)
            if not set(self._files.foreign).isdisjoint(self._lacking(wishes)):
                raise self._refusal(wishes)
        else:
            question = "Its files are not all in a directory here, so you are asked each time. Let it have them now?"
        if not self._is_agreed(wishes, question):
            raise self._refusal(wishes)
        for directory in own if self._has_directory else ():
            grant(directory, namespaces=wanted.namespaces, secrets=wanted.secrets)
        self._agreed |= {wish.name for wish in wishes}

    def _lacking(self, wishes: Sequence[Wish]) -> list[str]:
        """The directories that were not granted all of it."""
        grants = Grants.load()
        coverage = {each: grants.at(each) for each in self._files.directories}
        return [each for each in coverage if not all(coverage[each].allows(wish.name) for wish in wishes)]

    @property
    def _has_directory(self) -> bool:
        return bool(self._files.directories) and not self._files.remote

    @property
    def _weak(self) -> tuple[Weakness, ...]:
        return self._coverage.weak if self._coverage is not None else ()

    @property
    def _subject(self) -> str:
        return f"the project {one_line(self._project)} {place(self._files.directories)}"

    def _is_agreed(self, wishes: Sequence[Wish], question: str) -> bool:
        from dso.system.terminal import agreed

        places = {wish.name: wish.place for wish in reversed(wishes)}
        absent = {wish.name for wish in wishes if not wish.is_stored}
        lines = [
            f"{name}   {one_line(places[name])}{'   (not in the vault yet)' if name in absent else ''}"
            for name in sorted(places)
        ]
        asks = f"[DSO] {self._subject} asks for secrets that it was not granted:"
        stored = [f"(or answer no, and store what is the project's own: {each})" for each in _storing(wishes)]
        return bool((self._ask or agreed)(f"{asks}{bullets([*lines, *stored, *self._weak_lines()])}\n{question}"))

    def _refuse_weak_directories(self, wishes: Sequence[Wish]) -> None:
        """Where others can put files, a grant would not count; what the environment allows does, as CI needs it."""
        known = {each.directory: each for each in self._weak}  # what mends a grant that there is, mends a new one too
        for directory in map(os.path.realpath, self._files.directories):
            weak = weakness(directory, directory, os.geteuid())
            if weak is not None:
                weak = known.get(weak.directory, weak)
                raise NotGrantedError(
                    f"{self._subject} cannot have secrets: {one_line(str(weak))}, so its files may be anybody's",
                    hint="\n".join([weak.remedy, *([] if self._tells(wishes) else [_once(wishes)])]),
                )

    def _weak_lines(self) -> list[str]:
        return [f"(a grant that covers it does not count here: {one_line(str(each))})" for each in self._weak]

    def _refusal(self, wishes: Sequence[Wish]) -> NotGrantedError:
        """What is missing, in the project's own words: what the vault has is not for a log that its author may read."""
        lines = [f"{wish.reference} ({one_line(wish.place)}){_without(wish)}" for wish in wishes]
        lines += [
            f"(an env file adds files of {one_line(each)}: granted there, it is granted to everything below)"
            for each in self._files.foreign
        ]
        message = f"{self._subject} was not granted what it asks for:{bullets([*lines, *self._weak_lines()])}"
        return NotGrantedError(message, hint="\n".join(self._remedies(wishes)))

    def _tells(self, wishes: Sequence[Wish]) -> bool:
        """Whether to name these would say what the vault has to somebody who may not know."""
        return not self._may_tell and any(wish.tells for wish in wishes)

    def _remedies(self, wishes: Sequence[Wish]) -> list[str]:
        wanted, once = names_of(narrow(wish.name for wish in wishes)), _once(wishes)
        found = [f"what is the project's own has to be stored first: {each}" for each in _storing(wishes)]
        found += [f"to have that grant count here: {each.remedy}" for each in self._weak]
        if not self._has_directory:
            what = "files that are fetched" if self._files.remote else "files that were not found"
            return [*found, f"{what} have no directory that could be granted: use a terminal, which asks", once]
        if self._tells(wishes):
            first, *others = self._files.directories
            is_chosen = others or self._files.foreign  # by an env file that is here, and not in the first one
            words = self._files.words or ([] if is_chosen else for_directory(first))
            return [*found, f"if you trust it, see what that is and grant it: {command('allow', *words)}"]
        commands = [command("allow", *for_directory(each), *wanted) for each in self._lacking(wishes)]
        return [*found, f"if you trust it: {' && '.join(commands)}", once]


def _once(wishes: Sequence[Wish]) -> str:
    wanted = names_of(narrow(wish.name for wish in wishes))
    return f"or, for one command, as in CI: {paths.ALLOW_VARIABLE}={','.join(wanted)}"


def _below_others(directories: Sequence[str]) -> str:
    """What else a grant to all of these reaches, besides the project in the first."""
    return "".join(f", and to everything below {one_line(each)}" for each in directories[1:])


def _storing(wishes: Sequence[Wish]) -> list[str]:
    """The command that stores what was most likely forgotten, if anything: the project's own secrets."""
    missing = list(dict.fromkeys(wish.own for wish in wishes if wish.own))
    namespace = missing[0].partition("/")[0] if missing else ""
    return [command("secret", "set", missing[0] if len(missing) == 1 else f"{namespace}/NAME")] if missing else []


def _without(wish: Wish) -> str:
    return f": the project has no {wish.own}{wish.near.replace(':', ',', 1)}" if wish.own else ""
