"""A bars topic that was given more partitions: refused, naming both numbers and what to do."""

import pytest

from udfs.state.partitions import PartitionsChangedError, check_count, check_places


def test_state_and_topic_must_agree_unless_the_new_number_is_accepted():
    assert check_count("bars", None, 4) == 4
    assert check_count("bars", 4, 8, accepted=8) == 8
    with pytest.raises(PartitionsChangedError) as told:
        check_count("bars", 4, 8)
    for part in ("topic bars has 8", "built on 4", "--accept-partitions 8", "docs/runbook.md"):
        assert part in str(told.value)
    with pytest.raises(PartitionsChangedError):
        check_count("bars", 8, 4, accepted=8)


def test_a_message_of_a_new_partition_is_refused_in_mid_run():
    check_places("bars", [], 2)
    check_places("bars", ["0:1", "1:12", "0:2"], 2)
    with pytest.raises(PartitionsChangedError, match="has 11 partitions"):
        check_places("bars", ["0:1", "10:0"], 2)
