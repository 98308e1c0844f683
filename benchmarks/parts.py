"""Benchmarks of several parts: each runs on its own, and its figures are printed as JSON or a line each."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def run_parts(
    about: Mapping[str, Any], parts: Mapping[str, Callable[[], dict[str, Any]]], only: str | None, as_json: bool
) -> None:
    """Run the parts, or `only` one, and print what they found. about: what stands before it in the JSON."""
    found: dict[str, Any] = {}
    for name, measure in parts.items():
        if only in (None, name):
            print(f"{name} …", file=sys.stderr, flush=True)
            found[name] = measure()
    if as_json:
        print(json.dumps({**about, **found}, indent=1))
        return
    for name, figures in found.items():
        for key, value in figures.items():
            print(f"{name:8}{key:60}{value}")
