"""`python -m genalloy.cli`."""

from genalloy.cli import main

if __name__ == "__main__":
    main()
