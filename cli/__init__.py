"""The `signals` command."""
