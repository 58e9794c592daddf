"""The orchestrator: takes reports in, drives them to their end, gives them back.

intake.py receives the bytes, run.py takes one report from bytes to its final
state, relay.py joins the ingestor's stream with the moderator's, states.py says
which way a report may go, store.py is the SQL over tables.py, outbox.py ships
events to the audit service, service.py is the gRPC face, app.py wires.
"""
