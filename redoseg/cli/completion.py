"""Completion at TAB: a script for each shell, written from the dataclasses of the verbs.

The scripts contain all words, so that no Python starts at TAB.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from redoseg.cli.help import MANY
from redoseg.config.describe import Setting, settings_of
from redoseg.config.recipe import recipe_names
from redoseg.data import BUILT_IN, READERS
from redoseg.evaluation.baselines import METHODS
from redoseg.inference.model_file import weights
from redoseg.study.run import study_names

NAMES: dict[str, Callable[[], Iterable[str]]] = {  # what settings of this name take beside files
    "recipe": recipe_names,
    "model": weights,
    "study": study_names,
    "name": lambda: READERS,
    "data": lambda: BUILT_IN,
    "methods": lambda: METHODS,
}
_ALL = "List all settings"
WORDS_ONLY = ("name", "methods")  # a file is never meant


@dataclass(frozen=True)
class Command:
    """A verb, or one of the benchmarks as `bench train`, with what can follow it."""

    words: str
    about: str
    settings: tuple[Setting, ...]


Kinds = Mapping[str, type]


def script(shell: str, verbs: Kinds, benches: Kinds) -> str:
    """The completion script for bash, zsh or fish; both mappings are names -> dataclasses of settings."""
    kinds = dict(verbs) | {f"bench {name}": kind for name, kind in benches.items()}
    commands = [
        Command(words, (kind.__doc__ or "").splitlines()[0].rstrip("."), tuple(settings_of(kind)))
        for words, kind in kinds.items()
    ]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _options(setting: Setting) -> list[str]:
    """As the command line writes it; none for what needs no name."""
    if setting.positional:
        return []
    return [f"--{setting.name}", *setting.short, *([f"--{_negated(setting.name)}"] if setting.flag else [])]


def _helps(command: Command) -> list[str]:
    """The options that print help: of many settings --help lists a dozen."""
    many = sum(not setting.positional for setting in command.settings) > MANY
    return ["--help", "--help-all"] if many else ["--help"]


def _negated(name: str) -> str:
    table, dot, last = name.rpartition(".")
    return f"{table}{dot}no-{last}"


def _words(setting: Setting) -> list[str]:
    """The values that have names."""
    return list(setting.choices or NAMES.get(setting.field, list)())


def _files(setting: Setting) -> bool:
    return not (setting.choices or setting.number or setting.field in WORDS_ONLY)


def _patterns(command: Command, setting: Setting) -> str:
    """`case` pattern of "verb previous-word" for a setting's value."""
    return "|".join(shlex.quote(f"{command.words} {option}") for option in _options(setting))


def _operands(command: Command) -> tuple[list[str], bool]:
    """Names of what stands without a name, and whether files do too."""
    operands = [s for s in command.settings if s.positional]
    return [word for s in operands for word in _words(s)], any(_files(s) for s in operands)


def _cases(commands: list[Command], say: Callable[[list[str], bool], str]) -> str:
    """The body of `case "verb previous-word"`: what each setting takes."""
    lines = []
    for command in commands:
        alike: dict[str, list[str]] = {}
        for setting in command.settings:
            if not setting.flag and not setting.positional:
                alike.setdefault(say(_words(setting), _files(setting)), []).append(_patterns(command, setting))
        lines += [f"    {'|'.join(patterns)}) {said}; return ;;" for said, patterns in alike.items()]
    return "\n".join(lines)


def _next(commands: list[Command], start: str) -> list[Command]:
    """Commands that are one word longer than `start`."""
    return [c for c in commands if c.words.startswith(start) and " " not in c.words.removeprefix(start)]


def _bash(commands: list[Command]) -> str:
    def say(words: list[str], files: bool) -> str:
        return f"words={shlex.quote(' '.join(words))} files={'yes' if files else ''}; _redoseg_reply"

    verbs = [c.words for c in _next(commands, "")]
    benches = [c.words.removeprefix("bench ") for c in _next(commands, "bench ")]
    known = []
    for command in commands:
        options = " ".join([*_helps(command), *(o for s in command.settings for o in _options(s))])
        operands, files = _operands(command)
        known.append(
            f"    {shlex.quote(command.words)}) options={shlex.quote(options)}; "
            f"words={shlex.quote(' '.join(operands))} files={'yes' if files else ''} ;;"
        )
    return f"""\
# completion of redoseg for bash, made by `redoseg completion bash`
_redoseg_reply() {{
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ $files ]]; then
        local IFS=$'\\n'
        COMPREPLY+=($(compgen -f -- "$cur"))
    fi
}}

_redoseg() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} verb=${{COMP_WORDS[1]}}
    local words='' files='' options=''
    if ((COMP_CWORD == 1)); then
        words={shlex.quote(" ".join([*verbs, "--help", "--version"]))} _redoseg_reply
        return
    fi
    if [[ $verb == bench ]]; then
        if ((COMP_CWORD == 2)); then
            words={shlex.quote(" ".join([*benches, "--help"]))} _redoseg_reply
            return
        fi
        verb="bench ${{COMP_WORDS[2]}}"
    fi
    case "$verb $previous" in
{_cases(commands, say)}
    esac
    case $verb in
{chr(10).join(known)}
    esac
    if [[ $cur == -* ]]; then
        words=$options files=''
    fi
    _redoseg_reply
}}

complete -o filenames -F _redoseg redoseg
"""


def _zsh(commands: list[Command]) -> str:
    def described(pairs: Iterable[tuple[str, str]]) -> str:
        return " ".join(shlex.quote(f"{name.replace(':', chr(92) + ':')}:{about}") for name, about in pairs)

    def say(words: list[str], files: bool) -> str:
        ways = [f"compadd -- {shlex.join(words)}"] if words else []
        return " ".join([*(f"{way};" for way in ways), "_files"] if files else ways) or ":"

    verbs = described((c.words, c.about) for c in _next(commands, ""))
    benches = described((c.words.removeprefix("bench "), c.about) for c in _next(commands, "bench "))
    known = []
    for command in commands:
        more = [(option, _ALL) for option in _helps(command)[1:]]
        options = described([*((o, s.about) for s in command.settings for o in _options(s)), *more])
        known.append(f"    {shlex.quote(command.words)}) found=({options}) ;;")
    operands = [f"    {shlex.quote(c.words)}) {say(*_operands(c))} ;;" for c in commands]
    return f"""\
#compdef redoseg
# completion of redoseg for zsh, made by `redoseg completion zsh`
_redoseg() {{
  local verb=${{words[2]}} previous=${{words[CURRENT - 1]}}
  local -a found
  if ((CURRENT == 2)); then
    found=({verbs})
    _describe verb found
    return
  fi
  if [[ $verb == bench ]]; then
    if ((CURRENT == 3)); then
      found=({benches})
      _describe benchmark found
      return
    fi
    verb="bench ${{words[3]}}"
  fi
  case "$verb $previous" in
{_cases(commands, say)}
  esac
  if [[ ${{words[CURRENT]}} == -* ]]; then
    case $verb in
{chr(10).join(known)}
    esac
    found+=('--help:List the settings')
    _describe option found
    return
  fi
  case $verb in
{chr(10).join(operands)}
  esac
}}

if [[ $funcstack[1] == _redoseg ]]; then
  _redoseg "$@"
else
  compdef _redoseg redoseg
fi
"""


def _fish(commands: list[Command]) -> str:
    lines = [
        "# completion of redoseg for fish, made by `redoseg completion fish`",
        "function __redoseg_in -d 'whether the line begins with these words; with --here, whether it has no others'",
        "    set -l words (commandline -opc)",
        "    set -e words[1]",
        "    set -l asked $argv",
        '    if test "$argv[1]" = --here',
        "        set -e asked[1]",
        "        test (count $words) -eq (count $asked); or return 1",
        "    end",
        "    set -l last (count $asked)",
        "    test $last -eq 0; and return 0",
        '    test (count $words) -ge $last; and test "$words[1..$last]" = "$asked"',
        "end",
        "complete -c redoseg -f",
    ]

    def add(where: str, *rest: str) -> None:
        lines.append(f"complete -c redoseg -n {_fish_quoted('__redoseg_in ' + where)} {' '.join(rest)}")

    for command in commands:
        before, _, last = command.words.rpartition(" ")
        add(f"--here {before}".strip(), "-a", last, "-d", _fish_quoted(command.about))
    for command in commands:
        add(command.words, "-l help", "-d", _fish_quoted("List the settings"))
        if len(_helps(command)) > 1:
            add(command.words, "-l help-all", "-d", _fish_quoted(_ALL))
        for setting in command.settings:
            if setting.positional:
                continue
            names = [
                f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}" for option in _options(setting)
            ]
            value = [] if setting.flag else ["-r", "-F" if _files(setting) else "-f"]
            words = ["-a", _fish_quoted(" ".join(_words(setting)))] if _words(setting) else []
            # true and false are two options; other names of a setting are the same one
            for name in names if setting.flag else [" ".join(names)]:
                add(command.words, name, *value, *words, "-d", _fish_quoted(setting.about))
        operands, files = _operands(command)
        if operands or files:
            add(command.words, "-F" if files else "-f", *(["-a", _fish_quoted(" ".join(operands))] if operands else []))
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
