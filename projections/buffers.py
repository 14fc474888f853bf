"""Arrays that grow at their end."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

FIRST_CAPACITY = 4


class GrowingArray:
    """Rows in one NumPy array with room to spare; appending costs constant time on average.

    Views that were handed out stay valid and unchanged, whatever is appended later.
    """

    __slots__ = ("_array", "_length")

    def __init__(self, dtype: DTypeLike, width: int | None = None) -> None:
        """`width`: columns of a row; None: a row is a single number."""
        shape = (0,) if width is None else (0, width)
        self._array: NDArray[Any] = np.empty(shape, dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        length = self._length + len(rows)
        if length > len(self._array):
            capacity = max(length, 2 * len(self._array), FIRST_CAPACITY)
            grown = np.empty((capacity, *self._array.shape[1:]), self._array.dtype)
            grown[: self._length] = self._array[: self._length]
            self._array = grown
        self._array[self._length : length] = rows
        self._length = length

    def view(self, length: int | None = None) -> NDArray[Any]:
        """The first `length` rows, or all."""
        return self._array[: self._length if length is None else min(length, self._length)]
