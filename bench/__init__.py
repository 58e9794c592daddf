"""The benchmark suite: made-up reports, and the limits that we compare ourselves with."""
