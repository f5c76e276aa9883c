"""One driver at a time on a store."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path


@contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """Hold the lock that lies in a file, or raise a BlockingIOError that says who does.

    The lock is the operating system's (`flock`): it goes with the process that holds it, however that ends, so that no
    lock is ever left over; the file stays. On network file systems it holds as far as they carry `flock` from host to
    host (NFS does unless mounted with `local_lock`). Where it does not hold, two drivers do each other's work twice,
    but neither can spoil the other's: every chunk is written whole and has one possible content.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                errno.EWOULDBLOCK, f"{what} is being computed by {_holder(file)}: wait for it, or stop it first"
            ) from error
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} UTC"
    except (OSError, ValueError, KeyError):  # it has the lock, and has not said yet who it is
        return "another process"
