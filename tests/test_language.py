"""Plain English in what a user or a reader of the code sees: no banned word in messages, help texts, docstrings, pages.

CONTRIBUTING.md ("Style") says how texts are written; the words that it names are in BANNED. Comments, and the names and
docstrings of tests, are without the words in DIALECT.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import redoseg

PACKAGE = Path(redoseg.__file__).parent
ROOT = PACKAGE.parent
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [
    *(ROOT / "README.md", ROOT / "CHANGELOG.md", CONTRIBUTING, ROOT / "results" / "logs" / "README.md"),
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "settings.md"),  # made of help texts
    *sorted((PACKAGE / "weights").glob("*/README.md")),
]

BANNED = {  # pattern -> what to write
    r"anew|afresh": "again",
    r"told|tells": "says, shows; known, for what is told",
    r"of old": "earlier",
    r"as (?:they are|it is|it was|they were)(?=[.,;:)]|$)": "unchanged, or nothing",
    r"one's|as one \w+s": "its, your; name who acts",
    r"thus|hence": "so",
    r"where(?:in|by|of|upon)": "in which, by which",
    r"there(?:in|by|of|upon)": "in it, by that",
    r"here(?:in|by|of|upon)": "in this, by this",
    r"upon": "on",
    r"whilst": "while",
    r"amongst": "among",
    r"in (?:the )?stead of|in place of which": "instead of",
    r"(?<!there )(?:is|are) no (?!longer\b|more\b|less\b|better\b|worse\b)[a-z]\w*": "is not a",
    r"asked now": "requested",
    r"so that \w+ be": "so that it is",
    r"go on|goes on|going on|went on|gone on": "continue",
    r"mend|mends|mended": "fix",
    r"name another": "choose another",
    r"(?:can|cannot|could|to) be had": "is available",
    r"wanted": "requested, needed",
    r"all the same": "still, anyway",
    r"give it with": "pass it with",
    r"says? so": "prints that",
    r"what (?:it|they|one) (?:has|have)": "name what it has",
    r"the like|suchlike": "similar ones",
    r"be it|be they": "whether it is",
    r"lest": "so that ... not",
    r"nought|aught": "nothing, anything",
    r"yonder": "there",
    r"sittings?": "session",
    r"things?": "name it: object, value, file",
    r"whoever|whosoever": "the person who",
    r"beforehand": "before, first",
    r"worth of": "name the amount",
    r"untold|ripe": "many; ready",
    r"(?:a|each|every|last|first) look": "evaluation",
    r"nobody's business": "private",
    r"save for|but for": "except",
    r"for nothing|for naught": "without result",
    r"one likes|you like": "any",
    r"to come to (?:its|an) end|come to its end": "finish",
    r"not a few|no few": "many",
}
BANNED_IN_MESSAGES = {
    r"expected: \w+": "Expected X. Do Y.",
    r"seen, [^.;]*expected": "say it in a clause: ... has X, but Y is needed",
    r"lies?|lay": "is in",
    r"stands?": "is",
    r"leaves? (?:\S+ )?out|left out": "remove, skip, without",
    r"holds?": "contains",
    r"a place|place of its own": "a path",
}
DIALECT = (
    r"anew|afresh|told|tells|untold|of old|as (?:they|it) (?:is|are|was|were)(?=[.,;:)]|$)|one's own|thus|hence|upon",
    r"wherein|lest|mends?|go(?:es|ing)? on|went on|gone on|to be had|says? so|all the same|whoever|things?|beforehand",
)


class Text(NamedTuple):
    line: int
    kind: str  # "message", "help" or "docstring"
    text: str


def texts(source: str) -> Iterator[Text]:
    """All docstrings, help texts under fields, and all other strings of several words."""
    tree = ast.parse(source)
    described: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for number, child in enumerate(node.body):
                if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                    described.add(id(child.value))
                    kind = "help" if number and isinstance(node, ast.ClassDef) else "docstring"
                    yield Text(child.lineno, kind, without_names(str(child.value.value)))
    within: set[int] = set()  # parts of f-strings
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            within |= {id(part) for part in node.values}
            yield Text(node.lineno, "message", "".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and id(node) not in described | within:
            yield Text(node.lineno, "message", str(node.value) if " " in str(node.value) else "")


def has(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", text, re.I)


def any_of(patterns: Iterable[str]) -> str:
    """One pattern for all: most texts have none, and one search takes a tenth of forty."""
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def without_names(text: str) -> str:
    """A docstring without its code and the names of its parameters."""
    return re.sub(r"`+[^`]*`+|^ +\w+:", "", text, flags=re.M)


def banned(source: str) -> list[str]:
    """What is banned in a file's source, as `line: kind: word: what to write: text`."""
    found = []
    for line, kind, text in texts(source):
        text = " ".join(text.split())
        if not has(ANY, text):
            continue
        for pattern, instead in (BANNED | (BANNED_IN_MESSAGES if kind == "message" else {})).items():
            if seen := has(pattern, text):
                found.append(f"{line}: {kind}: {seen[0]!r}, write {instead!r}: {text}")
    return found


def banned_in_prose(text: str) -> list[str]:
    """What is banned in the lines of a page, without its code and without the list of words to avoid."""
    text = re.sub(r"^```(?:.|\n)*?^```|^- Words to avoid:.*(?:\n  .*)*", "", text, flags=re.M)
    return [line for line in text.splitlines() if has(ANY_IN_PROSE, re.sub("`[^`]*`", "", line))]


def in_dialect(source: str, names: bool = False) -> list[str]:
    """Comments with a word of DIALECT; with `names` also such names and docstrings of functions, as in tests."""
    tokens: Iterable[tokenize.TokenInfo] = ()
    if any(has(ANY_IN_DIALECT, line.partition("#")[2]) for line in source.splitlines()):  # few files are read in full
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    said = [token.string for token in tokens if token.type == tokenize.COMMENT]
    for node in ast.walk(ast.parse(source)) if names else ():
        if isinstance(node, ast.FunctionDef):
            said += [node.name.replace("_", " "), without_names(ast.get_docstring(node) or "")]
    return [text for text in said if has(ANY_IN_DIALECT, text)]


ANY, ANY_IN_PROSE, ANY_IN_DIALECT = any_of(BANNED | BANNED_IN_MESSAGES), any_of(BANNED), any_of(DIALECT)


CODE = [PACKAGE, ROOT / "examples", ROOT / "tools"]
FILES = {path.relative_to(ROOT).as_posix(): path for folder in CODE for path in sorted(folder.rglob("*.py"))}


@pytest.mark.parametrize("name", FILES)
def test_no_banned_word(name: str) -> None:
    source = FILES[name].read_text()
    found = banned(source) + in_dialect(source)
    assert not found, "\n".join(found)


def test_tests_are_in_plain_english() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name]
    assert [text for path in tests for text in in_dialect(path.read_text(), names=True)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_banned_word_on_a_page(page: Path) -> None:
    assert banned_in_prose(page.read_text()) == []


def test_a_planted_word_is_found() -> None:
    source = '''
"""A module that is written anew."""
class Options:
    """Options."""
    size: int = 1
    """One's own side [pixels]"""
def f(path):
    """Go on.

    Args:
        wanted: a name, `wanted` or not.
    """
    print(f"{path} holds {1}")
    raise ValueError(f"{path} seen, a folder expected: choose one")
'''
    found = banned(source)
    kinds = Counter(line.split(": ")[1] for line in found)
    assert kinds == {"docstring": 2, "help": 1, "message": 3}, found
    assert in_dialect("x = 1  # made anew\ny = 2  # made again\n") == ["# made anew"]
    assert in_dialect("def test_it_goes_on(): pass", names=True) == ["test it goes on"]
    assert banned_in_prose("It is made anew.\n\n```\nanew\n```\n\nThe same `anew`.") == ["It is made anew."]
    assert banned('"""Again."""\nprint("the photograph is not a picture")\nx = "lies"\n') == []


def test_enough_is_banned() -> None:
    assert len(BANNED | BANNED_IN_MESSAGES) >= 30


def test_contributing_names_no_word_that_is_allowed() -> None:
    (line,) = re.findall(r"^- Words to avoid: (.*(?:\n  .*)*)", CONTRIBUTING.read_text(), re.M)
    words = re.findall(r'"([^"]+)"', line)
    assert len(words) >= 15
    assert [word for word in words if not banned(f'print("say it {word} now")')] == []
