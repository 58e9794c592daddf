"""Exact repeats of a record, recognised in flat memory."""

from __future__ import annotations

from array import array

_FIRST_SLOTS = 1 << 12
_MOST_SLOTS = 1 << 22  # 32 MiB; about 2.8 million records
_WORD = (1 << 64) - 1


class Seen:
    """Remembers records by a 64-bit keyed hash (Python's SipHash, whose key is
    drawn at process start): 8 bytes a record in an open-addressing table.

    Two different records count as equal with probability n²/2⁶⁵: 3e-8 for a
    million. Records beyond the table's limit are not remembered: their repeats
    become findings of their own, and nothing is lost.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._mask = _FIRST_SLOTS - 1
        self._room = _FIRST_SLOTS * 2 // 3

    def repeats(self, record: bytes) -> bool:
        """Whether the same bytes were asked about before; remembers them."""
        word = hash(record) & _WORD or 1  # 0 marks a free slot
        slots, mask = self._slots, self._mask
        index = word & mask
        while held := slots[index]:
            if held == word:
                return True
            index = (index + 1) & mask
        if self._room:
            slots[index] = word
            self._room -= 1
            if not self._room and len(slots) < _MOST_SLOTS:
                self._grow()
        return False

    def _grow(self) -> None:
        old = self._slots
        size = len(old) * 2
        slots, mask = array("Q", bytes(8 * size)), size - 1
        for word in old:
            if word:
                index = word & mask
                while slots[index]:
                    index = (index + 1) & mask
                slots[index] = word
        self._slots, self._mask = slots, mask
        self._room = size * 2 // 3 - len(old) * 2 // 3
