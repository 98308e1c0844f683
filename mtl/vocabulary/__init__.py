"""The words that training, search and analysis share, each defined once; nothing here imports torch."""
