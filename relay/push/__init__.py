"""Notifications outside the page: web push, webhooks, Telegram; one channel per file, one dispatcher for all."""
