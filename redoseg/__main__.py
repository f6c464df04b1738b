"""`python -m redoseg` is the same as `redoseg`: Ctrl-C gives one line and 130, also while the program is loading."""

import os
import sys


def main() -> None:
    """The console script's entry. Whatever an interrupted import raises, it was stopped by hand."""
    import signal

    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt

    # one that is ignored, as under nohup, stays so
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, stop)
    try:
        from redoseg.cli.main import main as run
    except BaseException:
        if not stopped:
            raise
        os.write(2, b"redoseg: stopped by hand\n")
        os._exit(130)  # half-loaded modules would print more
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:
        os.write(2, b"redoseg: stopped by hand\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
