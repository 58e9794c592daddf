"""The audit service: an append-only Merkle log of who did what (RFC 6962).

app.py wires, service.py is the gRPC face, log.py is the pure mathematics,
store.py the SQL over tables.py. It dials nobody.
"""
