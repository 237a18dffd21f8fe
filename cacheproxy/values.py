"""Plain values: dataclasses that are frozen for the type checker alone, and so cost less while requests are served.

``dataclass(frozen=True)`` refuses at run time too, and pays for it when a value is made: it sets each field by a call,
in about twice the time. A miss makes a dozen values and more, one of them with two dozen fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen: bool, **options: Any) -> Any:
        """``dataclass`` to the letter for the type checker; compared and hashed like a frozen one at run time."""
        return dataclass(unsafe_hash=frozen, **options)


__all__ = ["value"]
