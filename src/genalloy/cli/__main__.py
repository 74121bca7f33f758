"""`python -m genalloy.cli`."""

from genalloy.cli import main

main()
