"""The gateway: REST in front of the orchestrator and the audit service.

app.py wires, routes/ has the handlers, envelope.py and scan.py tell a report
from an envelope around one, translate.py and query.py are the one translation
between messages and JSON, schemas.py and docs.py say the same as OpenAPI,
problems.py is every error's shape. It never parses a report and stores nothing.
"""
