"""Many trials: sweeps and searches on Ray Tune, and the command line."""

from mtl import __version__ as __version__
