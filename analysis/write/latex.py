"""A written table for a paper: LaTeX with the rules of `booktabs`."""

import re

from analysis.compute.text_table import TextTable

# What the tables hold that LaTeX reads otherwise, or that its fonts lack.
LETTERS = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": r"$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "λ": r"$\lambda$",
    "Δ": r"$\Delta$",
    "ℓ": r"$\ell$",
    "°": r"$^\circ$",
    "δ": r"$\delta$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "●": r"$\bullet$",
    "✓": r"$\checkmark$",
    "…": r"\ldots{}",
    "\N{NO-BREAK SPACE}": "~",
    "\n": " ",
    "\r": " ",
}


def latex(table: TextTable, title: str = "") -> str:
    """A table with its title and note as caption, marked rows bold: `\\usepackage{booktabs}` is all it needs.

    The first column is aligned left, the others right.
    """
    lines = [_row([f"\\textbf{{{cell}}}" for cell in map(escaped, table.header)])]
    rows = []
    for cells, marked in zip(table.rows, table.marked, strict=True):
        written = [escaped(cell) for cell in cells]
        rows.append(_row([f"\\textbf{{{cell}}}" if marked and cell else cell for cell in written]))
    caption = escaped(f"{title}. {table.note}" if title else table.note)
    alignment = "l" + "r" * (len(table.header) - 1)
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{caption}}}",
            f"\\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            *lines,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """The text as LaTeX prints it, letter for letter."""
    return re.sub("|".join(map(re.escape, LETTERS)), lambda found: LETTERS[found[0]], text)


def _row(cells: list[str]) -> str:
    # A cell that begins with [ would be read as an argument of the row's end before it.
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells) + r" \\"
