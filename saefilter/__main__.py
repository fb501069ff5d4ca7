"""`python -m saefilter`."""

from saefilter.cli import main

if __name__ == "__main__":
    main()
