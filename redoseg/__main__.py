"""`python -m redoseg` is the same as `redoseg`: Ctrl-C gives one line and 130, also while the program is loading."""

import os
import signal

STOPPED = (129, 130, 143)


def main() -> None:
    """The console script's entry. Whatever an interrupted import raises, a signal stopped it."""
    came: list[int] = []
    ended = False

    def stop(number: int, frame: object) -> None:
        if not ended:
            came.append(number)
            raise KeyboardInterrupt

    def end() -> None:
        nonlocal ended
        ended = True

    arrived, mark = os.pipe()  # in the order in which signals come, in which Python need not hear them
    os.set_blocking(mark, False)
    os.write(mark, b"\0")  # so that reading never waits
    signal.set_wakeup_fd(mark, warn_on_full_buffer=False)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)
    try:
        from redoseg.cli.main import main as run

        run(end)
    except BaseException as error:
        ended = True
        if not came:
            if isinstance(error, SystemExit) and error.code in STOPPED:
                os._exit(error.code)  # what is half loaded would print more, and threads would be waited for
            raise
        first = next((number for number in os.read(arrived, 1024) if number in came), came[0])
        how = "by hand" if first == signal.SIGINT else f"by {signal.Signals(first).name}"
        try:  # noqa: SIM105  # nothing is imported before signals are heard, so contextlib is not
            os.write(2, f"redoseg: stopped {how}\n".encode())
        except OSError:  # it is closed
            pass
        os._exit(128 + first)  # half-loaded modules would print more


if __name__ == "__main__":
    main()
