"""Entry point of `python -m vecserve`: the `vecserve` command."""

from vecserve.cli import main

if __name__ == "__main__":
    main()
