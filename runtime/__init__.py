"""What every Winnow process needs and no service owns.

Never imports a service: the layers are cli > services > runtime > winnow (gen).
"""
