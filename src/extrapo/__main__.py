"""`python -m extrapo`."""

from extrapo.cli import main

if __name__ == "__main__":
    main()
