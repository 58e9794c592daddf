"""The canary proof: planted secrets go in by every way, and come out nowhere."""
