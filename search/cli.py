"""The command line: `parsimony COMMAND …`. Exit status: 0 all done, 1 some trials failed or stopped, 2 bad input."""

import importlib
import io
import os
import sys
from collections.abc import Sequence

from mtl.errors import BadInput, one_line
from mtl.paths import check_words
from search.arguments import make_parser
from search.store.errors import SweepStopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a log that cannot show × or ± is no reason to lose a result.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        words = sys.argv[1:] if arguments is None else arguments
        check_words(words)
        parser = make_parser()
        if not words:
            parser.print_help()
            return 0
        options = parser.parse_args(words)
        # Import only the command's own module: some take seconds to import, and memory that a driver needs.
        return int(importlib.import_module(f"search.commands.{options.command}").run(options))
    except BadInput as error:
        print(f"parsimony: {one_line(str(error))}", file=sys.stderr)
        return 2
    except SweepStopped as error:
        print(f"parsimony: {one_line(str(error))}; the same command continues it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("parsimony: interrupted; the same command continues it", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
