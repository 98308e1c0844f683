"""Vega-Embed with Vega and Vega-Lite, which draw the report's explorable front, as the text of one script."""

from functools import cache

import vl_convert


@cache
def library() -> str:
    """What defines `vegaEmbed` in a page, the same bytes for the same version of `vl_convert`."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle
