"""PASCAL-Context with five tasks, as Maninis et al. published it."""
