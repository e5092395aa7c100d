"""Some random faults on all three venues at once; ``make long`` makes them for minutes."""

import asyncio

import pytest

from simulators.chaos import all_venues

pytestmark = pytest.mark.integration
SEED = 23
FAULTS = 7


def test_random_faults_lose_and_double_nothing() -> None:
    print(f"seed {SEED}")
    accounts = asyncio.run(all_venues(SEED, limit=FAULTS))
    for account in accounts:
        print(account)
        assert account["trades"] > 100
        assert sum(account["faults"].values()) == FAULTS
    # one venue may by chance meet only faults that neither end a connection nor lose an event, hardly all three
    assert sum(account["reconnects"] + account["backfilled"] for account in accounts) > 0
