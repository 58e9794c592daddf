"""Trains and measures the moderator's model; nothing here runs in a service."""
