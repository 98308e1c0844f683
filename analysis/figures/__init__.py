"""The figures: a file for each family, where one function computes what is shown, as typed data, and another draws it.

Figures are built without pyplot, so nothing is shared between them, and the same sweep gives the same bytes. The
letters of 3(a) to 3(d) are those of figure 3 of arXiv 2308.12114.
"""
