"""`python -m redoseg` is the same as `redoseg`."""

from redoseg.cli import main

if __name__ == "__main__":
    main()
