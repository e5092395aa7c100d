"""Alpaca: stocks, crypto, options and news."""
