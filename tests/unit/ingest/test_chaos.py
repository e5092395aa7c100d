"""Eight seconds of random faults on all three venues at once; ``python -m tests.simulators.chaos`` runs for longer."""

import asyncio
import random

from tests.simulators.chaos import all_venues


def test_random_faults_lose_and_double_nothing() -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    for account in asyncio.run(all_venues(8, seed)):
        print(account)
        assert account["trades"] > 100
        assert account["reconnects"] + account["backfilled"] > 0
