"""The documentation as a site: `make docs`. Pages are Markdown that reads well without it too."""

import os
import sys
from pathlib import Path

# What the commands' pages run: the parsimony beside this Python.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["COLUMNS"] = "88"

import mtl

project = "parsimony"
author = "The parsimony authors"
copyright = f"2026, {author}"
release = version = mtl.__version__

extensions = [
    "myst_nb",  # Markdown, and the tutorial's notebook
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # Args:, Raises:
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.programoutput",
]
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing_in_notebook"]

myst_heading_anchors = 3  # links to headings, as the forges have them
nb_execution_mode = "off"  # tests/docs executes the tutorial; the site shows what is stored in it
programoutput_use_ansi = False

# Docstrings are plain English with `names` in them.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "parsimony"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
