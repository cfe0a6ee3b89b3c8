"""`python -m jaxte`: the command line."""

from jaxte.cli import main

if __name__ == "__main__":
    main()
