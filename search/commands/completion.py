"""`parsimony completion`: a script that completes the command line in a shell, made by shtab."""

import argparse

import shtab

from search.arguments import make_parser


def run(options: argparse.Namespace) -> int:
    """Returns the exit status."""
    print(shtab.complete(make_parser(), options.shell))
    return 0
