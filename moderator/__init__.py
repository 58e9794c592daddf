"""The moderator: findings in, verdicts out. Stateless, dials nobody.

pipeline.py opens sealed evidence and runs the cascade; stages/ has one file a
stage; rules/ is the heuristics' knowledge as data; service.py is the gRPC face,
app.py wires.
"""
