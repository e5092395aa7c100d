"""What ends a run of streams and their helpers."""

import asyncio

import pytest

from connectors.ingest.supervisor import _until_done


class Refusal(Exception):
    """An error of a task."""


async def forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def fails() -> None:
    raise Refusal("no")


async def returns() -> None:
    return None


def test_the_end_of_all_work_ends_the_helpers() -> None:
    async def main() -> tuple[list[str], bool]:
        ended: list[str] = []
        stop = asyncio.Event()
        await _until_done([returns(), returns()], [forever(ended, "helper")], stop)
        return ended, stop.is_set()

    assert asyncio.run(main()) == (["helper"], True)


@pytest.mark.parametrize("where", ["work", "helpers"])
def test_the_first_error_ends_the_others_and_is_raised_as_it_is(where: str) -> None:
    ended: list[str] = []

    async def main() -> None:
        work, helpers = [forever(ended, "work")], [forever(ended, "helper")]
        (work if where == "work" else helpers).append(fails())
        await _until_done(work, helpers, asyncio.Event())

    with pytest.raises(Refusal, match="no"):
        asyncio.run(main())
    assert sorted(ended) == ["helper", "work"]
