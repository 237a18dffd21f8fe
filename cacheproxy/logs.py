"""The log, on standard error: lines for people, or one JSON object a line for programs."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

from cacheproxy import jsontext
from cacheproxy.flow.request_log import LOGGER
from cacheproxy.log_settings import LogSettings

_OURS: Final = "cacheproxy"


class JsonLines(logging.Formatter):
    """Each record as a JSON object: ``time``, ``level``, ``logger``, ``message``, and ``exception`` if there is one.

    A record of a request has its members instead of a message. With several processes also which one it was:
    ``process``.
    """

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        members: dict[str, Any] = getattr(record, "members", None) or {"message": record.getMessage()}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **members,
        }
        if self._process:
            line["process"] = self._process
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return jsontext.dump(line).decode()


def set_up_log(settings: LogSettings, *, process: str = "") -> None:
    """Log as the settings say. Libraries are heard from warnings on, whatever our own level is.

    ``process`` names this one where there are several.
    """
    handler = logging.StreamHandler()
    who = f"{process}: " if process else ""
    lines = logging.Formatter(f"%(asctime)s %(levelname)s {who}%(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonLines(process) if settings.format == "json" else lines)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_OURS).setLevel(settings.level.upper())
    logging.getLogger(LOGGER).setLevel(logging.INFO if settings.requests else logging.CRITICAL)
    if settings.requests and settings.prompts:
        logging.getLogger(_OURS).warning("questions are logged (log.prompts): whoever reads this log reads them")
