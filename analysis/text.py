"""How numbers are written for people: λ, percentages, and means with their deviations."""

import math

MINUS = "\N{MINUS SIGN}"


def strength(value: float) -> str:
    """λ as a recipe writes it, to three digits: 0, 1e-4, 3.16e-5, 10."""
    if value == 0 or 0.1 <= value < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def mean_std(mean: float, std: float, decimals: int, *, signed: bool = False) -> str:
    """Such as 0.412 ± 0.013; without ± where there is no deviation, empty where there is no mean."""
    if math.isnan(mean):
        return ""
    written = f"{mean:{'+' if signed else ''}z.{decimals}f}".replace("-", MINUS)
    return written if math.isnan(std) else f"{written} ± {std:.{decimals}f}"


def percent(mean: float, std: float = math.nan, *, signed: bool = False) -> str:
    """Fractions as percentages, "71.3 ± 0.8", without the sign %."""
    return mean_std(100 * mean, 100 * std, 1, signed=signed)


def decimals(largest: float) -> int:
    """Digits after the point that suit a metric whose values reach `largest`: 0.412, 1.034, 24.3."""
    return 3 if abs(largest) < 10 else 1


def count(number: int, thing: str) -> str:
    """Such as 1 trial, 2 trials."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
