"""The `winnow` command: the only place that composes services.

main.py is the typer app; up.py starts everything on one machine; postgres.py
supervises the embedded database; commands.py talks to a running server.
"""
