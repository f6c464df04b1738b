"""The command line's entry: `python -m redoseg`, and the console script.

Exit codes: 0 done; 1 done in part, the rest is listed; 2 a mistake of the user's, one line; 130 stopped by hand, 143 by
SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from redoseg import __version__, signals
from redoseg.cli.console import DONE, IN_PART, MISTAKE, STOPPED, forget_odd_widths, listed
from redoseg.cli.verbs import VERBS
from redoseg.errors import ConfigError, MissingError, RedosegError, did_you_mean
from redoseg.files import describe_error, printable
from redoseg.output import guarded_output, why_output_lost
from redoseg.system import TORCHRUN, forget_world, world

EXTRAS = {  # optional part of the package -> modules that it brings
    "train": ("torch", "safetensors", "onnx", "matplotlib", "jaxtyping", "requests"),
    "serve": ("gradio",),
    "api": ("fastapi", "uvicorn", "python_multipart", "pydantic", "starlette", "anyio"),
    "hub": ("huggingface_hub",),
    "measure": ("skimage",),
    "matting": ("pymatting",),
    "video": ("av",),
    "tiff": ("tifffile",),
}


def _usage() -> str:
    return (
        f"redoseg {__version__}: cut objects out of pictures, learnt without a single mask\n\n"
        "usage: redoseg VERB ...\n\n"
        + "\n".join(listed(VERBS))
        + "\n\nredoseg VERB --help lists the settings of a verb, --help-all those of a training too."
    )


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name); returns the exit code, raises RedosegError."""
    forget_odd_widths()
    if not arguments or arguments[0] in ("-h", "--help", "--help-all", "help"):
        print(_usage())
        return DONE
    if arguments[0] == "--version":
        print(__version__)
        return DONE
    if arguments[0] not in VERBS:
        raise ConfigError(
            f"verb {arguments[0]!r} does not exist. {did_you_mean(arguments[0], VERBS, 'Did')}Choose one of "
            f"{', '.join(VERBS)}; see `redoseg --help`."
        )
    if arguments[0] != "train":
        if world().size > 1:
            raise ConfigError(
                f"{arguments[0]} runs in one process, but {world().size} were started. Start it without torchrun. If "
                f"you did, its variables are left over: unset {' '.join(TORCHRUN)}"
            )
        forget_world()
    try:
        return VERBS[arguments[0]][1](arguments[1:])
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if missing in modules), None)
        if extra is None:
            raise
        raise MissingError.of(str(error.name), extra) from None


def main(ending: Callable[[], object] = lambda: None) -> None:
    """Entry point: errors of the user's become one line on stderr and exit code 2.

    `ending` is called where a signal has stopped the work: no other signal needs an answer then.
    """
    with guarded_output(), signals.as_ctrl_c():
        code = _exit_code(sys.argv[1:])
        if code == STOPPED:
            code = signals.exit_code()
            signals.ignore()
            ending()
        sys.stdout.flush()
        lost = why_output_lost()
        if lost:
            print(f"redoseg: standard output cannot be written ({lost}); some of its lines are lost", file=sys.stderr)
            code = code or IN_PART
        sys.stderr.flush()
    if world().size > 1:
        # threads that talk to other processes may still run, and would abort this one while Python is taken down
        os._exit(code)
    raise SystemExit(code)


def _exit_code(arguments: Sequence[str]) -> int:
    """Run one command line and print the mistake in it, if there is one."""
    try:
        return run_command(arguments)
    except Exception as error:
        if signals.have_come() and (isinstance(error, MissingError) or not isinstance(error, RedosegError)):
            return _stopped()  # an import that was cut off can end in any error
        return _mistake(error)
    except KeyboardInterrupt:
        return _stopped()
    except SystemExit as stop:  # help, or one of several processes that another one ends
        return stop.code if isinstance(stop.code, int) else DONE


def _stopped() -> int:
    print(f"redoseg: stopped {signals.how()}", file=sys.stderr)
    return STOPPED


def _mistake(found: Exception) -> int:
    """Print a mistake of the user's; any other error is raised again."""
    try:
        raise found
    except RedosegError as error:
        print(f"redoseg: {error}", file=sys.stderr)
        return MISTAKE
    except PermissionError as error:
        where = error.filename or "a file or folder"
        print(
            f"redoseg: {where} cannot be opened or changed (permission denied). Change its permissions.",
            file=sys.stderr,
        )
        return MISTAKE
    except MemoryError as error:
        why = f" ({describe_error(error)})" if str(error) else ""
        print(f"redoseg: there is not enough memory{why}. Choose smaller pictures, sizes or batches.", file=sys.stderr)
        return MISTAKE
    except (OSError, RuntimeError) as error:
        # in some Pythons is_dir() and resolve() raise these, where no path can be
        looped = str(error).partition("Symlink loop from ")[2].strip("'")
        named = getattr(error, "filename", None) or looped
        if not looped and not (
            isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP) and named
        ):
            raise
        why = os.strerror(errno.ELOOP) if looped else describe_error(error)
        print(f"redoseg: {printable(named)} cannot be used ({why}). Choose another path.", file=sys.stderr)
        return MISTAKE
