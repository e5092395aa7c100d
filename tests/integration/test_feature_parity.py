"""Bars through Kafka and the real job: topic ``features`` equals the batch matrix to the bit."""

import pytest

from cli.local.flink_replay import through_flink
from udfs.offline.checks import real_daily, synthetic_minutes


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_topic_features_equals_batch(mode):
    table = real_daily().groupby("symbol").head(400) if mode == "thread" else synthetic_minutes(3, 500)
    table = table.sort_values("start_ms", kind="stable").reset_index(drop=True)
    answer = through_flink(table, mode, frame_offsets=137)
    assert (answer.different, answer.missing) == (0, 0), answer.first_difference
    assert answer.compared == len(table)
