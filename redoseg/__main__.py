"""`python -m redoseg` is the same as `redoseg`: Ctrl-C gives one line and 130, also while the program is loading."""

import os

from redoseg import signals

STOPPED = (129, 130, 143)


def main() -> None:
    """The console script's entry. Whatever an interrupted import raises, a signal stopped it."""
    heard, ended = signals.Heard(), False

    def stop(number: int, frame: object) -> None:
        if not ended:
            heard.add(number)
            raise KeyboardInterrupt

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        with heard.in_order(), signals.handling(stop, restore=False):
            from redoseg.cli.main import main as run

            run(end)
    except BaseException as error:
        ended = True
        if heard.numbers:
            signals.end_process(heard.first())
        if isinstance(error, SystemExit) and error.code in STOPPED:
            os._exit(error.code)  # what is half loaded would print more, and threads would be waited for
        raise


if __name__ == "__main__":
    main()
