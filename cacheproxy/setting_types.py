"""What settings are made of: types that are read from text and checked, and the model that all sections are."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    WithJsonSchema,
)

from cacheproxy.address import Address
from cacheproxy.core.keys import named_key
from cacheproxy.errors import ConfigError
from cacheproxy.model import Mode
from cacheproxy.store.redis_url import SCHEMES, read_url


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return pattern


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be a base URL such as https://llm.example/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password; use upstreams.<name>.api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("must not hold a query or fragment")
    return url.rstrip("/")


def _store_url(url: str) -> str:
    if url.partition(":")[0] in SCHEMES:
        try:
            read_url(url)
        except ConfigError as error:
            raise ValueError(error.message) from None
        return url
    if not url.startswith("sqlite:///") or url == "sqlite:///":
        raise ValueError("must be sqlite:///PATH (four slashes for an absolute path) or the URL of a Redis")
    return url


def _proxy_key(key: SecretStr) -> SecretStr:
    named_key(key.get_secret_value())
    return key


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _mode_word(value: object) -> object:
    return Mode.OFF.value if value is False else _lowered(value)  # YAML 1.1 reads the bare word off as false


Listen = Annotated[
    Address,
    BeforeValidator(lambda value: value if isinstance(value, Address) else Address.parse(str(value))),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:8090", "[::1]:8090", ":8090"]}),
]
Url = Annotated[str, AfterValidator(_base_url)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
AnyCase = BeforeValidator(_lowered)
CacheMode = Annotated[Mode, BeforeValidator(_mode_word)]
Pattern = Annotated[str, AfterValidator(_regular_expression)]
Size = Annotated[ByteSize, Field(ge=0)]
Price = Annotated[float, Field(ge=0)]
Secret = Annotated[SecretStr, Field(min_length=1)]
ProxyKey = Annotated[SecretStr, AfterValidator(_proxy_key)]
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), AfterValidator(str.lower)]


class Frozen(BaseModel):
    """What all settings have in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
