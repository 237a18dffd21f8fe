"""``cacheproxy api``: ask a running proxy's admin API, for what only the running proxy knows."""

import shutil
import sys
from typing import Annotated, Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import typer

from cacheproxy import jsontext
from cacheproxy.cli.common import ConfigOption, Misuse, settings_from
from cacheproxy.errors import ConfigError, ProxyError

_BASE: Final = "/api/v1"
_ANSWERED_WITHIN_S: Final = 60
_EVERYWHERE: Final = ("0.0.0.0", "::", "")  # noqa: S104 - told apart, not listened on


def api(
    path: Annotated[str, typer.Argument(help="Behind /api/v1, with its query: /health, /explain?request=ID.")],
    *,
    body: Annotated[str | None, typer.Option(help="POST this JSON; - reads it from standard input.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="DELETE.")] = False,
    url: Annotated[
        str | None, typer.Option(help="The admin plane.", metavar="URL", show_default="as admin_listen is set")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Ask the admin API of a running proxy, and print what it answers. docs/api.md tells what there is."""
    if body is not None and delete:
        raise Misuse("--body and --delete exclude each other")
    settings = settings_from({"config": config}).settings
    address = settings.admin_listen
    host = "127.0.0.1" if address.host in _EVERYWHERE else address.host
    base = (url or f"http://{f'[{host}]' if ':' in host else host}:{address.port}").rstrip("/")
    request = Request(f"{base}{_BASE}/{path.lstrip('/')}")  # noqa: S310 - http or https, as the operator says
    if settings.admin_token is not None:
        request.add_header("Authorization", f"Bearer {settings.admin_token.get_secret_value()}")
    if body is not None:
        request.data = sys.stdin.buffer.read() if body == "-" else body.encode()
        request.add_header("Content-Type", "application/json")
    elif delete:
        request.method = "DELETE"
    try:
        # No proxy between: the admin plane is on this machine, or as near as its operator put it.
        with build_opener(ProxyHandler({})).open(request, timeout=_ANSWERED_WITHIN_S) as answer:
            shutil.copyfileobj(answer, sys.stdout.buffer, 1)
            sys.stdout.buffer.write(b"\n")
            sys.stdout.buffer.flush()
    except HTTPError as error:
        raise _Refused(error) from None
    except URLError as error:
        raise ConfigError(f"no proxy answers at {base} ({error.reason}): start it, or name it with --url") from None


class _Refused(ProxyError):
    """The admin plane's own words."""

    def __init__(self, error: HTTPError) -> None:
        try:
            message = jsontext.parse(error.read())["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = error.reason
        super().__init__(f"{error.code}: {message}")
