"""Notifications to where a user is: web push, webhooks, Telegram; one channel a file, one dispatcher for all."""
