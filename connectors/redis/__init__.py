"""The Redis client, its keys and what is written under them."""
