"""What `analysis` raises when the files or values it was given cannot be analysed."""


class BadInput(ValueError):
    """One line that names the file, column or row, the value found and what is allowed."""
