"""Refuses bars of a topic that was given more partitions: a symbol's bars must lie in one, in their order.

Kafka picks a key's partition by their number. After a change a symbol's next bars lie in another partition than those
before, and whoever reads both at once (a job that is behind, a replay) takes them out of order.
"""

from __future__ import annotations

from collections.abc import Iterable


class PartitionsChangedError(RuntimeError):
    """The bars topic has other partitions than the job's state was built on; the message gives the remedy."""

    def __init__(self, topic: str, before: int, now: int) -> None:
        super().__init__(
            f"topic {topic} has {now} partitions, and this job's state was built on {before}: a symbol's bars now lie "
            "in two of them and could be taken out of order. If every bar from before the change has been read, start "
            f"the job from its last checkpoint with --accept-partitions {now}; else publish to a new topic with a job "
            "of its own (docs/runbook.md, Partitions)"
        )


def check_count(topic: str, before: int | None, now: int, accepted: int | None = None) -> int:
    """The number of partitions that the state stands for from now on; ``before``: until now, None at first.

    >>> check_count("bars", None, 4), check_count("bars", 4, 4), check_count("bars", 4, 8, accepted=8)
    (4, 4, 8)
    >>> check_count("bars", 4, 8, accepted=6)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    udfs.state.partitions.PartitionsChangedError: topic bars has 8 partitions, and this job's state was built on 4: ...
    """
    if before is None or before == now or now == accepted:
        return now
    raise PartitionsChangedError(topic, before, now)


#: The partitioner that the bars of a state were dealt by. State of version 0.1 does not say: it takes this one.
PARTITIONER = "murmur2_random"


def check_partitioner(topic: str, before: str | None) -> str:
    """The partitioner that the state stands for from now on; RuntimeError if it was built on another.

    >>> check_partitioner("bars", None), check_partitioner("bars", "murmur2_random")
    ('murmur2_random', 'murmur2_random')
    """
    if before in (None, PARTITIONER):
        return PARTITIONER
    raise RuntimeError(
        f"topic {topic}: this job's state was built on keys dealt by {before!r}, this program reads {PARTITIONER!r}: "
        "start the program that took the savepoint, or begin without it from the log (docs/upgrades.md)"
    )


class TwoPartitionsError(RuntimeError):
    """A replayed log holds one key in two partitions."""

    def __init__(self, topic: str, key: str, one: str, other: str) -> None:
        super().__init__(
            f"topic {topic}: bars of {key!r} lie in partitions {one} and {other}: it was written with two "
            "partitioners, and a replay cannot know their order. Replay each range on its own (--from, --to), or pass "
            "--accept-partitioner to read both: what then comes late is a dead letter (docs/upgrades.md)"
        )


def check_places(topic: str, places: Iterable[str], count: int) -> None:
    """Refuse a frame (``partition:offset`` of each message) that holds messages of a partition made since the start.

    >>> check_places("bars", ["0:17", "3:2"], 4)
    >>> check_places("bars", ["0:17", "4:0"], 4)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    udfs.state.partitions.PartitionsChangedError: topic bars has 5 partitions, and this job's state was built on 4: ...
    """
    highest = max((int(number) for number in {place[: place.index(":")] for place in places}), default=-1)
    if highest >= count:
        raise PartitionsChangedError(topic, count, highest + 1)
