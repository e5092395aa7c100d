"""From scores to a signal: when to emit, the message's content, protections, tiers and the hash chain."""
