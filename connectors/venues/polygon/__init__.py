"""Polygon (Massive): stocks, options and news."""
