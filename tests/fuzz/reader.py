"""Fuzzed bytes, taken from the front; zeros once they are used up, so that any bytes are a whole scenario."""

from __future__ import annotations


class Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, length: int) -> bytes:
        """So many bytes, or what is left."""
        self._at += length
        return self._data[self._at - length : self._at]
