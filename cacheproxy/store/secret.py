"""The secret that keys every hash, kept beside the store: without it the entries cannot be found."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_SECRET_BYTES: Final = 32


def server_secret(data_dir: Path) -> bytes:
    """The secret, made on the first start and only readable by its owner. Raises ``ConfigError``."""
    path = data_dir / "secret"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            secret = path.read_bytes()
        else:
            secret = secrets.token_bytes(_SECRET_BYTES)
            with os.fdopen(handle, "wb") as file:
                file.write(secret)
    except OSError as error:
        raise ConfigError(f"cannot keep the server's secret in {path}: {error.strerror}; choose --data-dir") from error
    if len(secret) != _SECRET_BYTES:
        raise ConfigError(
            f"{path} does not hold a secret of {_SECRET_BYTES} bytes; delete it, and the cache starts anew"
        )
    return secret


def keep_secret(data_dir: Path, secret: bytes) -> None:
    """Make a secret that came from elsewhere this directory's own. Raises ``ConfigError`` where there is another."""
    path = data_dir / "secret"
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
    elif path.read_bytes() != secret:
        raise ConfigError(f"{path} is another secret than the entries' that come: choose an empty directory for them")


def secret_from(text: str) -> bytes:
    """A secret that somebody chose, as one of the length that keys are made with."""
    return hashlib.sha256(text.encode()).digest()
