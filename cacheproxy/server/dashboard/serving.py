"""Serves the dashboard's files: our own HTML, CSS and JavaScript, and plotly's JavaScript from its installed package.

Nothing secret is in them, so they are served without a token: it is the page that asks for one. Their addresses name
their content, so browsers keep them for good, and a new release has new ones.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from cacheproxy import __version__
from cacheproxy.server.refusal import refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

_PREFIX: Final = "/dashboard/"
"""Everything but the first page is below this."""

_TYPES: Final = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_DIGEST_BYTES: Final = 8
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "no-cache"
_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",  # charts.css holds what plotly would add to the page, see there
    "connect-src": "'self'",
    "img-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_STYLE_ID: Final = re.compile(rb'if\(!document\.getElementById\("([0-9a-f]{32,})"\)\)')
_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Dashboard:
    """Handlers of ``/`` and ``/dashboard/...``. Building it reads some twenty small files."""

    def __init__(self) -> None:
        self._files = dict(_read(files(__package__) / "static", PurePosixPath()))
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for name, content in sorted(self._files.items()):
            digest.update(name.encode() + b"\0" + content)
        self._digest = digest.hexdigest()
        self._charts = Charts()
        self._index = _filled(
            self._files["index.html"],
            {
                "static": f"{_PREFIX}{self._digest}",
                "charts": self._charts.path,
                "styles": "\n".join(f'<meta name="kept-out" id="{name}">' for name in self._charts.style_ids),
                "version": __version__,
            },
        )

    @property
    def paths(self) -> frozenset[str]:
        """What is served without a token."""
        own = {f"{_PREFIX}{self._digest}/{name}" for name in self._files}
        return frozenset({"/", *own, self._charts.path} - {""})

    def routes(self) -> Sequence[web.RouteDef]:
        """What to add to the admin plane."""
        routes = [web.get("/", self.index), web.get(_PREFIX + "{digest}/{name:.+}", self.file)]
        return [web.get(self._charts.path, self._charts.script), *routes] if self._charts.path else routes

    async def index(self, _: web.Request) -> web.Response:
        """The page that loads all else."""
        return _response(self._index, ".html", _ASK_AGAIN)

    async def file(self, request: web.Request) -> web.Response:
        """One of our own files. A page of an earlier release gets today's, and does not keep it."""
        name = request.match_info["name"]
        content = self._files.get(name)
        if content is None:
            return refused(404, "not_found", f"the dashboard has no file {name!r}")
        current = request.match_info["digest"] == self._digest
        return _response(content, PurePosixPath(name).suffix, _FOR_GOOD if current else _ASK_AGAIN)


class Charts:
    """plotly's JavaScript. The package is found, never imported: that would take a second and megabytes."""

    def __init__(self) -> None:
        self._file = _plotly_file()
        self._packed: bytes | None = None
        self._packing = asyncio.Lock()
        self.path = f"{_PREFIX}plotly-{version('plotly')}.min.js" if self._file else ""
        """Where it is served; empty without the package, and then the pages show tables."""
        self.style_ids = _style_ids(self._file) if self._file else ()
        """Elements that plotly's map libraries look for before they add styles, which the policy would refuse."""

    async def script(self, request: web.Request) -> web.StreamResponse:
        """The script, packed once for all the browsers that take it packed."""
        assert self._file is not None  # noqa: S101 - else there is no route to here
        headers = _HEADERS | {"Cache-Control": _FOR_GOOD, "Vary": hdrs.ACCEPT_ENCODING}
        if "gzip" not in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            return web.FileResponse(self._file, headers=headers)
        async with self._packing:
            if self._packed is None:
                self._packed = await asyncio.to_thread(_pack, self._file)
        return web.Response(
            body=self._packed,
            headers=headers | {"Content-Encoding": "gzip"},
            content_type="text/javascript",
            charset="utf-8",
        )


def _plotly_file() -> Path | None:
    try:
        version("plotly")
    except PackageNotFoundError:
        return None
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return file if file.is_file() else None


def _style_ids(file: Path) -> Sequence[str]:
    return sorted({found.decode() for found in _STYLE_ID.findall(file.read_bytes())})


def _pack(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), mtime=0)


def _read(folder: Traversable, path: PurePosixPath) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _read(item, path / item.name)
        elif PurePosixPath(item.name).suffix in _TYPES:
            yield str(path / item.name), item.read_bytes()


def _filled(page: bytes, values: Mapping[str, str]) -> bytes:
    text = page.decode()
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text.encode()


def _response(content: bytes, suffix: str, caching: str) -> web.Response:
    return web.Response(
        body=content, content_type=_TYPES[suffix], charset="utf-8", headers=_HEADERS | {"Cache-Control": caching}
    )
