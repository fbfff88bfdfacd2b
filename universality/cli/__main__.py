"""``python -m universality.cli``."""

from universality.cli import main

main()
