"""Options of Kafka tables: what `--exactly-once` sets together, and how SQL joins the messages of a frame."""

import pytest

from connectors.kafka.tables import frames_query, outbox_sink
from connectors.settings.outcomes_job import parse_outcome_settings
from connectors.settings.signals_job import parse_settings
from udfs.frames.groups import SEPARATOR

#: `transaction.max.timeout.ms` of a Kafka broker that was not configured otherwise.
BROKER_LIMIT_MS = 900_000


def test_transactions_have_the_jobs_prefix_and_a_timeout_that_a_broker_allows():
    ddl = outbox_sink("b:1", ["out"], exactly_once=True, transaction_prefix="signals")
    assert "'sink.delivery-guarantee' = 'exactly-once'" in ddl
    assert "'sink.transactional-id-prefix' = 'signals'" in ddl
    (timeout,) = [line for line in ddl.splitlines() if "transaction.timeout.ms" in line]
    assert 300_000 < int(timeout.split("'")[3]) <= BROKER_LIMIT_MS  # longer than any checkpoint interval
    plain = outbox_sink("b:1", ["out"])
    assert "'sink.delivery-guarantee' = 'at-least-once'" in plain
    assert "transaction" not in plain


@pytest.mark.parametrize("parse", [parse_settings, parse_outcome_settings])
@pytest.mark.parametrize(
    ("arguments", "interval_ms"),
    [
        ([], None),
        (["--exactly-once"], 2_000),
        (["--exactly-once", "--checkpoint-ms", "500"], 500),
        (["--checkpoint-ms", "60000"], 60_000),
    ],
)
def test_the_checkpoint_interval(parse, arguments, interval_ms):
    assert parse(arguments).checkpoint_interval_ms == interval_ms


def test_the_two_jobs_do_not_share_a_prefix():
    assert parse_settings([]).group_id != parse_outcome_settings([]).group_id


def test_an_interval_longer_than_a_transaction_may_live_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse_settings(["--exactly-once", "--checkpoint-ms", "1000000"])
    assert "--checkpoint-ms" in capsys.readouterr().err


def test_sql_joins_a_frame_by_the_character_that_the_reader_splits_at():
    assert f"U&'\\{ord(SEPARATOR):04X}'" in frames_query(8, 20)
