"""`python -m redoseg` is the same as `redoseg`: Ctrl-C gives one line and 130, also while the program is loading."""

import os
import signal

STOPPED = (129, 130, 143)


def main() -> None:
    """The console script's entry. Whatever an interrupted import raises, a signal stopped it."""
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)
    try:
        from redoseg.cli.main import main as run

        run()
    except BaseException as error:
        if not came:
            if isinstance(error, SystemExit) and error.code in STOPPED:
                os._exit(error.code)  # what is half loaded would print more, and threads would be waited for
            raise
        how = "by hand" if came[0] == signal.SIGINT else f"by {signal.Signals(came[0]).name}"
        try:  # noqa: SIM105  # nothing is imported before signals are heard, so contextlib is not
            os.write(2, f"redoseg: stopped {how}\n".encode())
        except OSError:  # it is closed
            pass
        os._exit(128 + came[0])  # half-loaded modules would print more


if __name__ == "__main__":
    main()
