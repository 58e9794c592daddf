"""Labelled findings, and how good verdicts on them are: for `winnow evaluate` and
for training.
"""
