"""Binance: spot crypto."""
