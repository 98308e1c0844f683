"""One trial: networks, proximal training, compaction, datasets."""

__version__ = "0.1.0"
