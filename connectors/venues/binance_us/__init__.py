"""Binance.US: Binance's protocol at other addresses."""
