"""From scores to a signal: when to emit, what the message says, protections, tiers and the hash chain."""
