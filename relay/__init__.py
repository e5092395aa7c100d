"""A thin WebSocket and HTTP service over Redis."""
