"""Eight seconds of random faults on all three venues at once; ``python -m simulators.chaos`` runs for longer."""

import asyncio
import random

from simulators.chaos import all_venues


def test_random_faults_lose_and_double_nothing() -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    accounts = asyncio.run(all_venues(8, seed))
    for account in accounts:
        print(account)
        assert account["trades"] > 100
    # one venue may by chance meet only faults that neither end a connection nor lose an event, hardly all three
    assert sum(account["reconnects"] + account["backfilled"] for account in accounts) > 0
