"""Optuna storages to which trials are mirrored: a database or a journal file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tal_bench.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna.journal"
"""Default storage, in the study's folder."""
OFF = "off"
HEARTBEAT_INTERVAL, GRACE_PERIOD = 30, 120
"""Seconds between two heartbeats of a running trial, and without one until it counts as dead."""
FLAG = "--storage"
DRIVERS = {
    "postgresql://": "postgresql+psycopg://",
    "postgres://": "postgresql+psycopg://",
}


def database_url(storage: str) -> str | None:
    """Return a database URL with the driver of the `cluster` extra, or None if the storage is a file.

    Raises:
        InputError: The URL is invalid, or its driver is not installed.
    """
    if "://" not in storage:
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    for prefix, prefix_with_driver in DRIVERS.items():
        if storage.startswith(prefix):
            storage = prefix_with_driver + storage.removeprefix(prefix)
    try:
        make_url(storage).get_dialect().import_dbapi()
    except ImportError as error:
        hint = "pip install 'tal-bench[cluster]'" if storage.startswith("postgresql") else "install it"
        raise InputError(f"database driver is not installed: {error.name}", where=FLAG, hint=hint) from None
    except (SQLAlchemyError, ValueError) as error:
        hint = "give postgresql://USER:PASSWORD@HOST/DATABASE, sqlite:///FILE, a journal file, or off"
        raise InputError(f"not a valid database URL: {error}", where=FLAG, hint=hint) from None
    return storage


@contextmanager
def open_storage(storage: str) -> Iterator[BaseStorage]:
    """Open a storage, create missing tables, and close its connections afterwards.

    Args:
        storage: URL of a database, or path of a journal file.

    Raises:
        Exception: The database cannot be reached; the type depends on its driver.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = database_url(storage)
    if url is None:
        yield _open_journal(Path(storage))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
        database = optuna.storages.RDBStorage(
            url, heartbeat_interval=HEARTBEAT_INTERVAL, grace_period=GRACE_PERIOD
        )
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def _open_journal(file: Path) -> BaseStorage:
    """Open a journal file and truncate an incomplete last line, which a killed process may leave."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock(str(file))  # taken over after 30 s if the process that holds it has died
    lock.acquire()
    try:
        content = file.read_bytes() if file.exists() else b""
        if not content.endswith(b"\n"):
            file.write_bytes(content[: content.rfind(b"\n") + 1])
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
