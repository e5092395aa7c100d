"""History over REST: bars, trades, news and option snapshots, for backfill and for the option and news features."""
