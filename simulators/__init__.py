"""Venues on loopback: real WebSocket and HTTP servers that speak each venue's protocol and misbehave on command.

Start them as a process from a checkout: ``python -m simulators`` (see ``--help``).
"""
