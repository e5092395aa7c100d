"""``signals dead-letter``: list what could not be processed and requeue it once the cause is fixed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from connectors.kafka.dead_letters import Letter

dead_letter_app = typer.Typer(help="Messages that could not be processed: list and requeue them.")

_Kafka = Annotated[str, typer.Option("--kafka", envvar="SIGNALS_KAFKA", help="broker, host:port")]
_Topic = Annotated[str, typer.Option(help="only those that came from this topic (or venue)")]
_Reason = Annotated[str, typer.Option(help="only those whose reason contains this text")]
_Field = Annotated[str, typer.Option(help="only those about this field")]
_At = Annotated[list[str] | None, typer.Option("--at", help="only this one, as listed: PARTITION:OFFSET (repeatable)")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(dead_letter_app, name="dead-letter")


@dead_letter_app.command("list")
def list_(
    kafka: _Kafka = "127.0.0.1:9092",
    topic: _Topic = "",
    reason: _Reason = "",
    field: _Field = "",
    at: _At = None,
    limit: Annotated[int, typer.Option(min=1, help="number of dead letters to show")] = 20,
    json: Annotated[bool, typer.Option("--json", help="dead letters as JSON lines, with partition and offset")] = False,
) -> None:
    """Show dead letters: reasons with counts, then the last ones with partition, offset, reason and first bytes.

    Example: signals dead-letter list --kafka 127.0.0.1:9092 --reason price --limit 5
    """
    from collections import Counter

    from rich.console import Console
    from rich.table import Table

    dead_letters, unreadable = _read(kafka)
    found = _chosen(dead_letters, topic, reason, field, at)
    if json:
        import msgspec

        for one in found[-limit:]:
            line = {"place": one.place, "requeued": one.requeued, **msgspec.structs.asdict(one.letter)}
            typer.echo(msgspec.json.encode(line))
        return
    console = Console(soft_wrap=False)
    counted = Table("from", "field", "reason", "count", "put back", title="By reason")
    groups = Counter((one.letter.topic, one.letter.field, _general(one.letter.reason)) for one in found)
    back = Counter((one.letter.topic, one.letter.field, _general(one.letter.reason)) for one in found if one.requeued)
    for group, count in groups.most_common(20):
        counted.add_row(*map(_plain, group), str(count), str(back[group] or ""))
    shown = Table("at", "from", "field", "reason", "message", "", title=f"The last {min(limit, len(found))}")
    for one in found[-limit:]:
        text = one.payload[:60].decode(errors="backslashreplace")
        letter = one.letter
        cells = (one.place, one.source, letter.field, letter.reason, text, "requeued" if one.requeued else "")
        shown.add_row(*map(_plain, cells))
    if found:
        console.print(counted)
        console.print(shown)
    typer.echo(
        f"{len(found)} of {len(dead_letters)} dead letters" + (f", {unreadable} unreadable" if unreadable else "")
    )


@dead_letter_app.command()
def requeue(
    kafka: _Kafka = "127.0.0.1:9092",
    topic: _Topic = "",
    reason: _Reason = "",
    field: _Field = "",
    at: _At = None,
    every: Annotated[bool, typer.Option("--all", help="all of them, if no filter is given")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="fix a field first: FIELD=JSON (repeatable)")] = None,
    again: Annotated[bool, typer.Option("--again", help="also those already requeued")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print what would be requeued")] = False,
    save: Annotated[Path | None, typer.Option(help="first write the original bytes here, one message per line")] = None,
) -> None:
    """Requeue messages to the topics they came from, unchanged or with fields fixed; each only once.

    A message that fails again becomes a new dead letter, which is skipped unless --again is given.

    Example: signals dead-letter requeue --kafka 127.0.0.1:9092 --at 0:17 --set close=101.5 --dry-run
    """
    from connectors.kafka.dead_letters import requeue as put_back

    if not (topic or reason or field or at or every):
        _stop("choose which: --topic, --reason, --field, --at PARTITION:OFFSET, or --all")
    changes = _changes(set_ or [])
    dead_letters, _ = _read(kafka)
    found = _chosen(dead_letters, topic, reason, field, at)
    if save is not None:
        save.write_bytes(b"".join(one.payload + b"\n" for one in found))
    if dry_run:
        _show(found, changes, again)
        return
    sent = 0
    try:
        for result in put_back(kafka, found, changes, again):
            if result.error:
                typer.echo(f"{result.letter.place} left: {result.error}", err=True)
            else:
                sent += 1
    except ConnectionError as error:
        _stop(f"{error} ({sent} were requeued before that)")
    typer.echo(f"{sent} requeued, {len(found) - sent} left")
    if found and not sent:
        raise typer.Exit(1)


def _show(found: list[Letter], changes: dict[str, object], again: bool) -> None:
    """What a requeue would send, one line per dead letter."""
    from connectors.kafka.dead_letters import repaired

    for one in found:
        try:
            body = repaired(one.payload, changes).decode(errors="backslashreplace")
        except ValueError as error:
            body = f"cannot: {error}"
        note = " (already requeued: needs --again)" if one.requeued and not again else ""
        typer.echo(f"{one.place} -> {one.letter.topic}{note}: {body[:200]}")
    typer.echo(f"{len(found)} chosen, nothing sent")


def _read(kafka: str) -> tuple[list[Letter], int]:
    from connectors.kafka.dead_letters import read_letters

    try:
        return read_letters(kafka)
    except ConnectionError as error:
        _stop(str(error))


def _chosen(dead_letters: list[Letter], topic: str, reason: str, field: str, at: list[str] | None) -> list[Letter]:
    from connectors.kafka.dead_letters import chosen

    found = chosen(dead_letters, topic, reason, field, at or ())
    if at and (unknown := set(at) - {one.place for one in found}):
        _stop(f"--at {', '.join(sorted(unknown))}: no such dead letter (or another filter excludes it)")
    return found


def _changes(texts: list[str]) -> dict[str, object]:
    """``FIELD=JSON`` of each option; text that is not JSON is taken as a string.

    >>> _changes(["close=1.5", "symbol=AAPL", "final=true"])
    {'close': 1.5, 'symbol': 'AAPL', 'final': True}
    """
    import msgspec

    changes: dict[str, object] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            _stop(f"--set {text}: write FIELD=VALUE, as close=101.5")
        try:
            changes[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            changes[name] = value
    return changes


def _general(reason: str) -> str:
    """The reason without its numbers, so that similar ones count together.

    >>> _general("close -1.5 is not above 0")
    'close # is not above #'
    """
    import re

    return re.sub(r"-?\d+(\.\d+)?", "#", reason)


def _plain(text: str) -> str:
    """Text that rich prints unchanged."""
    from rich.markup import escape

    return escape(text)


def _stop(text: str) -> NoReturn:
    typer.secho(f"dead-letter: {text}", fg="red", err=True)
    raise typer.Exit(2)
