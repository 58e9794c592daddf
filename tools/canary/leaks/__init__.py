"""Builds that leak on purpose: the proof must find them out."""
