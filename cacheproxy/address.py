"""Where to listen: a host and a port, read from text and written back."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final, Self

from cacheproxy.errors import ConfigError

_EVERY_INTERFACE: Final = "0.0.0.0"  # noqa: S104 - it is asked for by leaving the host out
_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]\s/]*)):(?P<port>[0-9]{1,5})")
_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address. Port 0 stands for any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (every interface). Raises ``ValueError``."""
        match = _ADDRESS.fullmatch(text.strip())
        if match is None or int(match["port"]) > _LAST_PORT:
            raise ValueError("must be HOST:PORT, [IPV6]:PORT or :PORT, with a port up to 65535")
        if match["v6"] is not None:
            return cls(str(ipaddress.IPv6Address(match["v6"])), int(match["port"]))
        return cls(match["host"] or _EVERY_INTERFACE, int(match["port"]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect. A name other than ``localhost`` is taken for a reachable one."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def taken(self, error: OSError) -> ConfigError:
        """What to say when it cannot be listened on."""
        # asyncio says it in its own words, which name the address again, and numbers a name that does not resolve.
        known = error.errno is not None and error.errno in errno.errorcode
        why = os.strerror(error.errno) if known and error.errno else error.strerror or error
        return ConfigError(f"cannot listen on {self}: {why}; choose another address")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
