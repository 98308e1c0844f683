"""Tables as LaTeX: letter for letter, and with as many cells as they have."""

import re

from hypothesis import given
from hypothesis import strategies as st

from analysis.compute.everything import Computed
from analysis.compute.text_table import TextTable
from analysis.write.latex import LETTERS, escaped, latex
from analysis.write.tables import written_results


def read(content: str) -> str:
    """What `escaped` wrote, read back; a break of a line is a space, as LaTeX has it."""
    back = {written: letter for letter, written in LETTERS.items() if letter not in "\n\r"}
    return re.sub("|".join(map(re.escape, sorted(back, key=len, reverse=True))), lambda one: back[one[0]], content)


@given(st.text(st.sampled_from([*LETTERS, *"aZ 09.,+[]()\u200d"])))
def test_every_letter_is_there(text: str) -> None:
    assert read(escaped(text)) == text.replace("\n", " ").replace("\r", " ")


def test_a_table_has_its_rows_rules_and_bold_ones() -> None:
    table = TextTable.of({"tasks": ["a_b", "c"], "Δm [%] ↑": ["+1.0 ± 0.2", ""]}, "70 % & more.", [True, False])
    assert latex(table, "A title").splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{A title. 70 \% \& more.}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"\textbf{tasks} & \textbf{$\Delta$m [\%] $\uparrow$} \\",
        r"\midrule",
        r"\textbf{a\_b} & \textbf{+1.0 $\pm$ 0.2} \\",
        r"c &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_results_are_written_without_a_letter_that_latex_lacks(small: Computed) -> None:
    table = written_results(small.sweep, small.marked)
    content = latex(table)
    assert content.isascii()
    assert sum(line.endswith(r"\\") for line in content.splitlines()) == 1 + len(table.rows)
    cells = [re.split(r"(?<!\\)&", line) for line in content.splitlines() if line.endswith(r"\\")]
    assert {len(row) for row in cells} == {len(table.header)}
