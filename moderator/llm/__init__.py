"""What asking a language model takes, none of it a judgement.

envelope.py composes what may leave, opened.py checks that no opened value is in
it; prompt.py has our words, the model's closed answer, and what is said of it;
client.py talks; budget.py and breaker.py bound it. The judgement is
stages/llm.py.
"""
