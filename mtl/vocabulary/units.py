"""How quantities are written for people, alike in every command, table and report: a number, a space, its unit.

Powers of ten throughout: 1 MB is 10^6 bytes, 1 M 10^6, 1 GMAC 10^9 multiply-accumulates. Depths are in metres, "m", and
angles in degrees, "°"; a table or a figure that has one unit for a whole column or axis names it there, in brackets.
"""

import math


def duration(seconds: float) -> str:
    """3725 -> 1 h 02 min; 75 -> 1 min 15 s; 9 -> 9 s; 0.42 -> 0.4 s."""
    if abs(seconds) < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def milliseconds(value: float) -> str:
    """12.345 -> 12.3 ms; 1234 -> 1,234 ms."""
    return f"{_three_digits(value)} ms"


def percent(share: float) -> str:
    """0.1234 -> 12.3 %; what is there but rounds to nothing is < 0.1 %, and a share that is not known –."""
    if math.isnan(share):
        return "–"
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def byte_size(count: float) -> str:
    """1234567 -> 1.23 MB; 512 -> 512 B."""
    return _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def number(count: float) -> str:
    """Of parameters, and of other large counts: 23508032 -> 23.5 M; 512 -> 512."""
    return _scaled(count, ("", "k", "M", "G", "T"))


def macs(count: float) -> str:
    """Multiply-accumulates: 46.0e9 -> 46.0 GMAC; 8.35e6 -> 8.35 MMAC."""
    return _scaled(count, ("MAC", "kMAC", "MMAC", "GMAC", "TMAC"))


def counted(count: int, thing: str) -> str:
    """1 photo; 1,234 photos."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _scaled(count: float, units: tuple[str, ...]) -> str:
    """In the largest unit, a thousand times the one before, in which the number is at least 1 as it is written."""
    power = 0
    while power < len(units) - 1 and abs(count) >= 999.5 * 1000.0**power:
        power += 1
    shown = f"{count:,.0f}" if power == 0 else _three_digits(count / 1000.0**power)
    return f"{shown} {units[power]}".rstrip()


def _three_digits(value: float) -> str:
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{decimals}f}"
