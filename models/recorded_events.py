"""Status events as they were written before they were typed: ``kind`` and a ``detail`` of loose keys.

:func:`typed_fields` upgrades a recorded message: one function per old kind and writer, over plain dictionaries.
:func:`detail_of` writes ``detail`` alongside the typed fields, for readers of the release before; it can go with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Fields = dict[str, Any]
Loose = Mapping[str, Any]


def _split(fields: Loose, detail: Loose) -> Fields:
    """Ingestion wrote ``split_to``, ``split_from`` and ``effective_ms``; others ``ratio``, or ``new_rate/old_rate``.

    Without ``effective_ms`` the event's own time is when it takes effect.
    """
    names = (("split_to", "split_from"), ("new_rate", "old_rate"))
    if "ratio" in detail:
        ratio = detail["ratio"]
    else:
        pair = next(((detail[new], detail[old]) for new, old in names if new in detail and old in detail), None)
        if pair is None:
            wanted = "needs 'ratio', or 'split_to' and 'split_from'"
            raise msgspec.ValidationError(f"split of {fields.get('symbol')!r}: detail {dict(detail)!r} {wanted}")
        new, old = (_number(value) for value in pair)
        if not old > 0:
            raise msgspec.ValidationError(
                f"split of {fields.get('symbol')!r}: {new:g} for {old:g}: both must be above 0"
            )
        ratio = new / old
    return {"ratio": _number(ratio), "effective_ms": detail.get("effective_ms", fields.get("timestamp_ms"))}


def _number(value: object) -> float:
    """A number that may have been written as text."""
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise msgspec.ValidationError(f"Expected a number, got {value!r} - at `$.detail`")


def _trading_state(fields: Loose, detail: Loose) -> Fields:
    """Alpaca's own field names."""
    names = {"code": "sc", "text": "sm", "reason_code": "rc", "tape": "z"}
    return {ours: detail[theirs] for ours, theirs in names.items() if theirs in detail}


def _price_bands(fields: Loose, detail: Loose) -> Fields:
    """Alpaca wrote ``i`` and ``z``, Polygon ``indicators`` and ``tape``; both ``u`` and ``d``."""
    indicators = detail.get("indicators") or ((detail["i"],) if detail.get("i") else ())
    bands = {ours: detail[theirs] for ours, theirs in (("upper", "u"), ("lower", "d")) if theirs in detail}
    return {**bands, "indicators": tuple(indicators), "tape": detail.get("tape") or detail.get("z", "")}


def _imbalance(fields: Loose, detail: Loose) -> Fields:
    """Alpaca wrote ``p`` and ``z``, Polygon the names that are still in use."""
    kept = ("imbalance", "paired", "clearing_price", "auction")
    found: Fields = {name: detail[name] for name in kept if name in detail}
    if "p" in detail:
        found["price"] = detail["p"]
    if "z" in detail:
        found["tape"] = detail["z"]
    return found


def _gap(fields: Loose, detail: Loose) -> Fields:
    """``kind`` was the numbering."""
    kept = ("channel", "first", "last", "published", "missing")
    found: Fields = {name: detail[name] for name in kept if name in detail}
    if "kind" in detail:
        found["numbering"] = detail["kind"]
    return found


def _same(fields: Loose, detail: Loose) -> Fields:
    """The keys are the typed fields."""
    return dict(detail)


UPGRADES: dict[str, Callable[[Loose, Loose], Fields]] = {
    "split": _split,
    "halt": _trading_state,
    "pause": _trading_state,
    "quotation_resume": _trading_state,
    "resume": _trading_state,
    "status": _trading_state,
    "luld": _price_bands,
    "imbalance": _imbalance,
    "gap": _gap,
    "gap_filled": _gap,
    "gap_unfilled": _gap,
    "connected": _same,
    "disconnected": _same,
    "refused": _same,
    "stale": _same,
    "venue_error": _same,
    "symbols_dropped": _same,
}

#: A typed field of each event of this kind: a message that has it was written typed, and its ``detail`` is a copy.
TYPED_BY = {
    "split": "ratio",
    "luld": "upper",
    "gap": "channel",
    "gap_filled": "channel",
    "gap_unfilled": "channel",
    "connected": "channels",
    "disconnected": "again_in_s",
    "venue_error": "action",
    "symbols_dropped": "symbols",
}


def typed_fields(kind: str, fields: Loose) -> Fields:
    """The fields of an event as its struct has them, whichever release wrote it."""
    found = {name: value for name, value in fields.items() if name != "detail"}
    if TYPED_BY.get(kind) in found:
        return found
    detail = fields.get("detail", {})
    if not isinstance(detail, dict):
        raise msgspec.ValidationError(f"Expected `object`, got {detail!r} - at `$.detail`")
    if detail or kind == "split":
        found = UPGRADES[kind](fields, detail) | found
    return found


def detail_of(kind: str, event: Any) -> Fields:
    """The ``detail`` that the release before wrote for this event."""
    match kind:
        case "split":
            return {"split_to": event.ratio, "split_from": 1, "effective_ms": event.effective_ms}
        case "halt" | "pause" | "quotation_resume" | "resume" | "status":
            names = {"sc": event.code, "sm": event.text, "rc": event.reason_code, "rm": event.reason, "z": event.tape}
        case "luld":
            names = {"u": event.upper, "d": event.lower, "indicators": event.indicators, "tape": event.tape}
        case "imbalance":
            kept = ("imbalance", "paired", "clearing_price", "auction")
            names = {"p": event.price, "z": event.tape} | {name: getattr(event, name) for name in kept}
        case "gap" | "gap_filled" | "gap_unfilled":
            found = {"channel": event.channel, "kind": event.numbering, "first": event.first, "last": event.last}
            return found | {name: value for name in ("published", "missing") if (value := getattr(event, name, None))}
        case "connected":
            return {"channels": event.channels}
        case "disconnected":
            return {"again_in_s": event.again_in_s}
        case "venue_error":
            return {"code": event.code, "action": event.action}
        case "symbols_dropped":
            return {"symbols": event.symbols}
        case _:
            return {}
    return {name: value for name, value in names.items() if value}
