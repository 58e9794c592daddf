"""The audit service: an append-only Merkle log of who did what (RFC 6962).

app.py wires, service.py is the gRPC face; log.py is the pure mathematics, notes.py
the signed texts; ledger.py appends and signs, publishing.py writes checkpoints
outside of the database, verify.py checks all of it, store.py is the SQL over
tables.py. It dials nobody.
"""
