"""Which trades change which part of a bar, by sale condition: the SIPs' guidance as Alpaca applies it.

Source: docs.alpaca.markets, market data FAQ, "How are bars aggregated?", and the CTA and UTP specifications. The
strictest of a trade's conditions wins. Conditions are the tapes' codes; a venue with its own codes declares
the tape's code of each (:class:`connectors.venues.base.Capabilities`).

Where minute and daily bars differ: a trade out of sequence (``G P Z 4``) must not set a minute's prices, because it was
not made in order, but may be the day's high or low; an extended-hours trade (``T``) makes a minute, never a day's
price; a corrected close (``9``) is not a trade of its minute, and sets a day's prices without volume.
"""

from __future__ import annotations

from typing import Literal

from connectors import venues

#: What a trade may change: ``all``; ``range`` = high, low and volume; ``volume``; ``prices`` = not volume; ``nothing``.
Effect = Literal["all", "range", "volume", "prices", "nothing"]

_MINUTE: dict[Effect, str] = {"nothing": "MQ9", "volume": "BWCHINRUV7GPZ4"}
_DAY: dict[Effect, str] = {"nothing": "MQ", "volume": "BWCHINRUV7T", "prices": "9", "range": "GPZ4"}

#: Strictest first.
_ORDER: tuple[Effect, ...] = ("nothing", "volume", "prices", "range")


def codes(source: str, timeframe: str) -> dict[Effect, list[str]]:
    """Codes by effect for one source's bars, strictest first; a trade with none of them changes all.

    >>> codes("polygon", "1m")["nothing"]
    ['15', '16', '38']
    >>> codes("binance", "1m")
    {}
    """
    table = _DAY if timeframe == "1d" else _MINUTE
    venue = venues.of_source(source)
    tape_codes = venues.capabilities(venue).sale_conditions if venue else None
    if tape_codes is None:
        found = {effect: list(table.get(effect, "")) for effect in _ORDER}
    else:
        found = {
            effect: [n for n, tape_code in tape_codes.items() if tape_code in table.get(effect, "")]
            for effect in _ORDER
        }
    return {effect: sorted(listed, key=lambda code: (len(code), code)) for effect, listed in found.items() if listed}


def effect(source: str, timeframe: str, conditions: tuple[str, ...]) -> Effect:
    """What one trade may change.

    >>> effect("alpaca", "1m", ("@", "I")), effect("alpaca", "1m", ("@", "T", "M")), effect("alpaca", "1m", ())
    ('volume', 'nothing', 'all')
    """
    for name, listed in codes(source, timeframe).items():
        if any(code in listed for code in conditions):
            return name
    return "all"
