"""The figures, a file for each family: `…_panels` computes the rows that are shown, `draw_…` draws them.

Figures are built without pyplot, so nothing is shared between them, and the same sweep gives the same bytes. The
letters of 3(a) to 3(d) are those of figure 3 of arXiv 2308.12114.
"""
