"""`python -m redoseg` is the same as `redoseg`."""

from redoseg.cli.main import main

if __name__ == "__main__":
    main()
