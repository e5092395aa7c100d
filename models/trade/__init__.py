"""What happens to a position: trading calendars, expiry, price levels and exits. Pure functions."""
