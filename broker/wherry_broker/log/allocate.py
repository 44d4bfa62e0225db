"""Space of a file beyond its end: taken from the file system before it is needed, and owned from then on.

`os.posix_fallocate` would make the file longer, so this is fallocate(2) itself, with FALLOC_FL_KEEP_SIZE: what is
allocated lies after the end, the length stays as it is, and a reader sees nothing of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KEEP_SIZE = 1
NOT_SUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
SHORT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What the system answers when there is not enough of something. Nothing is broken then, and nothing was written."""


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    function = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    result: Callable[[int, int, int, int], int] = function
    return result


def allocate(descriptor: int, offset: int, size: int) -> bool:
    """Takes space for `size` bytes from `offset` on.

    Returns:
        False when this system or this file system cannot do that for any file.

    Raises:
        OSError: there is not enough of it, or something is wrong with the disk.
    """
    function = _fallocate()
    if function is None:
        return False
    while function(descriptor, KEEP_SIZE, offset, size):
        number = ctypes.get_errno()
        if number in NOT_SUPPORTED:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True
