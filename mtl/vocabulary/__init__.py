"""The terms that training, search and analysis share, each defined once. Nothing here imports torch."""
