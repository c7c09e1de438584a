"""Runs the command line: `python -m distilbert_jax`."""

import sys

from distilbert_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
