"""`python -m optstudy` is the command line."""

from optstudy.cli import main

if __name__ == "__main__":
    main()
