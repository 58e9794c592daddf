"""The ingestor: a report's bytes in, normalised findings out. Stateless, dials nobody.

parsing.py frames, detects and runs one report; parsers/ has one file a scanner;
protect.py is the one place where plaintext becomes a Finding; service.py is the
gRPC face, app.py wires.
"""
