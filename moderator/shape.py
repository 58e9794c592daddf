"""Shape of a value: is it drawn at random, mixed, a word, a repetition?

Counting changes between character classes tells random text from words as well
as entropy does on short strings, at a fraction of the cost.
"""

from __future__ import annotations

_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_HEX = b"0123456789abcdefABCDEF"


def _classes() -> bytes:
    table = bytearray(b"s" * 256)
    for code in range(128):
        character = chr(code)
        if character.isdigit():
            table[code] = ord("d")
        elif character.islower():
            table[code] = ord("l")
        elif character.isupper():
            table[code] = ord("u")
    return bytes(table)


def _sounds() -> bytes:
    table = bytearray(b"-" * 256)
    for letter in _LETTERS:
        sound = ord("v") if letter in b"aeiouy" else ord("c")
        table[letter] = table[letter - 32] = sound
    return bytes(table)


_CLASS = _classes()
_SOUND = _sounds()
_HUGE = 512
_SAYS_SOMETHING = 6
_LONG = 100
# A prefix tells enough, and bounds the cost.
_LOOKED_AT = 64


def _cases(classes: bytes) -> int:
    """How often the case changes between neighbours."""
    return classes.count(b"lu") + classes.count(b"ul")


def signals(value: bytes) -> tuple[str, ...]:
    """Ids of the shape signals of a value (UTF-8)."""
    size = len(value)
    if size == 0:
        return ("shape.empty",)
    if size < 4:
        return ("shape.tiny",)
    if size > _LOOKED_AT:
        if size > _HUGE:
            return ("shape.huge",) if b" " not in value else ("shape.spaced", "shape.huge")
        value = value[:_LOOKED_AT]
    long = size > _LONG
    size = len(value)
    distinct = len(set(value[:32]))
    if distinct <= 2 or (size >= 12 and distinct * 4 <= min(size, 32)):
        return ("shape.repeated",)
    if b" " in value or b"\n" in value:
        return ("shape.spaced",)
    classes = value.translate(_CLASS)
    digits = classes.count(b"d")
    if digits == size or size < _SAYS_SOMETHING:
        return ()
    # From a letter of either case to a digit.
    into_digits = classes.replace(b"u", b"l").count(b"ld") if digits else 0
    if size >= 16:
        if digits and not value.translate(None, _HEX):
            return ("shape.hex",)
        if into_digits >= 2 and (into_digits * 12 >= size or _cases(classes) * 4 >= size):
            return ("shape.long_random",) if long else ("shape.random",)
        if b"cccc" in value.translate(_SOUND):
            mixed = _cases(classes) * 10 >= size * 3
            return ("shape.random",) if mixed else ("shape.unpronounceable",)
        return ("shape.word",) if classes.count(classes[:1]) == size else ()
    kinds = (b"l" in classes) + (b"u" in classes) + (digits > 0) + (b"s" in classes)
    if size >= 8 and kinds >= 3:
        return ("shape.strong_password",)
    sounds = value.translate(_SOUND)
    harsh = b"cccc" in sounds
    if kinds >= 2 and (into_digits > 1 or harsh):
        return ("shape.mixed",)
    if harsh:
        return ("shape.unpronounceable",)
    return ("shape.word",) if kinds == 1 and sounds.count(b"v") * 5 >= size else ()
