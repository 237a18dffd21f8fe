"""What can be set: every setting with its type, its default and one line of documentation.

Plain frozen models. Building one reads no file and no environment (config.py does); an unknown name is an error.
Durations end in ``_s`` or ``_ms``, sizes are bytes and may be written as ``64MiB``.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from cacheproxy.address import Address
from cacheproxy.economics_settings import EconomicsSettings
from cacheproxy.local_settings import DistillSettings, EmbedderSettings, LocalSettings
from cacheproxy.log_settings import LogSettings, TelemetrySettings
from cacheproxy.model import Mode, Reason
from cacheproxy.redis_settings import RedisSettings
from cacheproxy.setting_types import (
    AnyCase,
    CacheMode,
    Frozen,
    HeaderName,
    Listen,
    Pattern,
    Price,
    ProxyKey,
    Secret,
    Size,
    StoreUrl,
    Url,
)
from cacheproxy.upstream.providers import PROVIDERS

GUARDS: Final = tuple(r.value.removeprefix("guard-") for r in Reason if r.value.startswith("guard-"))
_MIB: Final = 1024 * 1024
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_RESERVED_NAMES: Final = ("v1", "livez", "readyz", "cacheproxy")


class Policy(StrEnum):
    """How a similar question's answer is accepted."""

    CERTIFIED = "certified"
    THRESHOLD = "threshold"
    VCACHE = "vcache"


class IndexName(StrEnum):
    """Where vectors are searched."""

    AUTO = "auto"
    FAISS = "faiss"
    REDIS = "redis"


class JudgeName(StrEnum):
    """Who says whether a cached answer and a fresh one say the same."""

    AUTO = "auto"
    EQUALITY = "equality"
    SEMANTIC = "semantic"
    LLM = "llm"


class UpstreamSettings(Frozen):
    """One LLM API, reached under ``/NAME/...``."""

    url: Url | None = None
    """Base URL with its /v1; may be left out for a provider that is known by name."""
    api_key: Secret | None = None
    """Sent in place of the caller's own credential; prefer api_key_env, which keeps it out of files."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that holds the key, for instance OPENAI_API_KEY. Without it no key is ever sent."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key is not None and self.api_key_env is not None:
            raise ValueError("set api_key or api_key_env, not both")
        return self

    @property
    def injects_key(self) -> bool:
        """Whether a key of ours replaces the caller's credential."""
        return self.api_key is not None or self.api_key_env is not None


class GuardSettings(Frozen):
    """The lexical guards, which veto a similar question that differs in what matters."""

    disabled: tuple[str, ...] = ()
    """Guards that do not veto."""
    final: bool = True
    """Whether vetoes stand until verdicts on that answer lift them; false lets any verdicts of a pool outweigh them."""

    @field_validator("disabled")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in GUARDS:
                raise ValueError(f"{name!r} is no guard; there are {', '.join(GUARDS)}")
        return names

    @property
    def disabled_reasons(self) -> frozenset[Reason]:
        """The reasons that those guards would have given."""
        return frozenset(Reason(f"guard-{name}") for name in self.disabled)


class DecisionSettings(Frozen):
    """Finer points of how similar questions are decided on."""

    aliases: Annotated[int, Field(ge=0)] = 32
    """Further questions that one answer is found by, each judged to have that answer."""
    certified_only: bool = False
    """Serve nothing that is only estimated to keep the budget; the first questions still go by the bootstrap rule."""
    bootstrap_similarity: Annotated[float, Field(ge=0, le=1)] = 0.9
    """The least similarity before there are verdicts enough for a rule; belongs to the embedding model."""
    verifier: Annotated[str, Field(min_length=1)] = "none"
    """What compares two questions where a decision is close: none, late-interaction, or a cross-encoder's name."""
    audit_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """What fresh answers to compare with may cost, as a share of what was saved; past it only audit_rate is kept."""
    audit_allowance_usd: Annotated[float, Field(ge=0)] = 2.0
    """What they may cost beyond that, in USD since the start: the first verdicts come before any saving."""
    judge_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """What the judge model may cost, as a share of what was saved."""


class NamespaceSettings(Frozen):
    """What is different in one namespace."""

    mode: CacheMode | None = None
    """Its mode, in place of the general one."""
    max_wrong_per_hit: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Its error budget, in place of the general one."""


class CacheSettings(Frozen):
    """What is kept, for how long, and who may read it."""

    ttl_s: PositiveFloat = 86_400
    """How long an answer lives."""
    volatile_ttl_s: PositiveFloat = 300
    """How long an answer lives whose question speaks of now, today, latest ..."""
    responses_ttl_s: PositiveFloat = 29 * 86_400
    """The longest life of a Responses API answer that the provider keeps too; below the provider's 30 days."""
    max_entries: PositiveInt = 100_000
    """Beyond this number the entries that were used least recently go."""
    max_bytes: Size = ByteSize(2048 * _MIB)
    """The same limit, in bytes of stored answers."""
    max_answer_bytes: Size = ByteSize(4 * _MIB)
    """A longer answer is passed on and not stored."""
    samples: PositiveInt = 1
    """Answers kept per exact question; more than one serves applications that sample for self-consistency."""
    isolate_by: Literal["credential", "user"] = "credential"
    """Who shares entries: callers with one credential, or only those who also name the same user in the body."""
    shared: bool = False
    """Let every caller read every entry, whatever the credential."""
    tenant_header: HeaderName | None = None
    """A request header that names the tenant in place of the credential; only behind a gateway that sets it."""
    credential_proof_s: PositiveFloat = 3600
    """A credential reads the cache only while an upstream accepted it no longer ago than this."""
    searching_models: tuple[str, ...] = ()
    """Further models, by name or by a pattern such as my-agent-*, that look things up for each answer: never cached."""
    l1_bytes: Size = ByteSize(64 * _MIB)
    """Memory for the answers used most recently."""


class KeySettings(Frozen):
    """What makes two requests the same."""

    neutral: tuple[str, ...] = ()
    """Further body members that do not change the answer and are left out of the key."""
    headers: tuple[HeaderName, ...] = ()
    """Further request headers that change the answer and are part of the key."""
    ignore_patterns: tuple[Pattern, ...] = ()
    """Regular expressions whose matches in system prompts are blanked in the key: timestamps, request ids."""
    volatile_patterns: tuple[Pattern, ...] = ()
    """Further regular expressions that mark a question as volatile."""


class LimitSettings(Frozen):
    """Bounds on what callers send, and on what it sets off."""

    body_bytes: Size = ByteSize(32 * _MIB)
    """A longer request body to a cached API gets a 413."""
    upstream_calls: PositiveInt = 1024
    """Calls to upstreams at a time, those passed through included; a further one gets a 503 and when to come back."""


class DeadlineSettings(Frozen):
    """How long anything is waited for."""

    store_ms: PositiveFloat = 50
    """The store, per call on a request's path."""
    embedder_ms: PositiveFloat = 250
    """The embedding of a question, its time in the queue included."""
    verifier_ms: PositiveFloat = 100
    """The comparison of two questions, where decision.verifier names one; past it the question is a miss."""
    connect_s: PositiveFloat = 5
    """Connecting to an upstream."""
    first_byte_s: PositiveFloat = 120
    """The first byte of an upstream's answer."""
    between_bytes_s: PositiveFloat = 60
    """Each further byte of it."""
    body_s: PositiveFloat = 60
    """Each further byte of a caller's request; then it gets a 408."""
    abandon_s: Annotated[float, Field(ge=0)] = 2
    """After its last listener left, an upstream call is cancelled when this has passed."""
    start_s: PositiveFloat = 300
    """A worker, and what takes over on SIGHUP, has this long to become ready: to load an index, to fetch a model."""
    hung_s: PositiveFloat = 12
    """With workers, a process whose event loop stands still for this long is killed and started again."""
    drain_s: Annotated[float, Field(ge=0)] = 30
    """On SIGTERM, requests in flight may take this long to finish."""
    unready_s: Annotated[float, Field(ge=0)] = 0
    """Before that, /readyz says no and requests are still taken for this long: time for load balancers to see it."""


class BatchingSettings(Frozen):
    """How questions are gathered for the embedding model."""

    max_items: PositiveInt = 64
    """Texts in one batch."""
    max_padded_tokens: PositiveInt = 16_384
    """Texts in a batch times the tokens of its longest."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 2
    """How long a batch waits for company, only under load."""
    max_queue: PositiveInt = 1024
    """Texts that may wait; beyond it a request goes on without its embedding."""


class PriceSettings(Frozen):
    """What a model costs, in USD per million tokens, where the price library does not know it."""

    model: str
    """The model's name as requests give it, or a pattern such as my-model-*."""
    upstream: str | None = None
    """Only at this upstream."""
    input_per_mtok: Price
    """Input."""
    output_per_mtok: Price
    """Output, reasoning included."""
    cached_input_per_mtok: Price | None = None
    """Input read from the provider's own prompt cache; the input price when absent."""
    cache_write_per_mtok: Price | None = None
    """Input written to the provider's own prompt cache; the input price when absent."""


class Settings(Frozen):
    """Every setting of the proxy. An instance is complete and consistent."""

    listen: Listen = Address("127.0.0.1", 8090)
    """Where callers connect: HOST:PORT, [IPV6]:PORT, or :PORT for every interface; port 0 takes a free one."""
    admin_listen: Listen = Address("127.0.0.1", 8091)
    """Where metrics and administration are, by default for this machine only."""
    admin_token: Secret | None = None
    """The bearer token of the admin listener; needed when it is not on loopback."""
    admin_hosts: tuple[str, ...] = ()
    """Without a token: host names, beside loopback addresses, under which the admin listener answers."""
    proxy_keys: tuple[ProxyKey, ...] = ()
    """Keys that callers must show, each as KEY or TENANT:KEY; unset, and without virtual keys, everybody is let in."""
    virtual_keys: bool = False
    """Ask callers for keys that cacheproxy keys create makes, each of a tenant; proxy_keys are taken beside them."""
    upstream_url: Url | None = None
    """Base URL with its /v1 of the LLM API behind the proxy; unset, the providers' own public ones."""
    upstreams: dict[str, UpstreamSettings] = Field(default={})
    """Named LLM APIs, each reached under /NAME/...; the names default and anthropic are those behind /v1."""
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Path("~/.local/share/cacheproxy")
    """Where entries, the ledger and the secret that keys are made with are kept."""
    store: StoreUrl | None = None
    """sqlite:///PATH, or a Redis that many proxies share (docs/redis.md); unset, a database in the data directory."""
    mode: CacheMode = Mode.SEMANTIC
    """semantic; shadow (exact hits only; what similarity would have answered is counted); exact; off."""
    policy: Annotated[Policy, AnyCase] = Policy.CERTIFIED
    """How a similar question's answer is accepted: certified (keeps an error budget), threshold or vcache."""
    max_wrong_per_hit: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """The error budget of certified: the share of hits on similar questions that may be wrong. For vcache its delta."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.95
    """With the policy threshold: the least cosine similarity, 0 to 1, at which an answer is served."""
    audit_rate: Annotated[float, Field(ge=0.05, le=1)] = 0.05
    """The least share of hits on similar questions that the upstream is asked again for, in the background."""
    judge: Annotated[JudgeName, AnyCase] = JudgeName.AUTO
    """Who compares a cached answer with a fresh one: equality, semantic, llm, or auto (each where it can tell)."""
    judge_model: Annotated[str, Field(min_length=1)] | None = None
    """The model that the llm judge asks at the default upstream; unset, there is none."""
    decision: DecisionSettings = DecisionSettings()
    namespaces: dict[str, NamespaceSettings] = Field(default={})
    """What is different for requests of some namespaces, by name."""
    guards: GuardSettings = GuardSettings()
    embedding_model: Annotated[str, Field(min_length=1)] = "sentence-transformers/all-MiniLM-L6-v2"
    """The sentence-transformers model that compares questions."""
    index: Annotated[IndexName, AnyCase] = IndexName.AUTO
    """Where similar questions are looked for: faiss (in each process), redis (its vector sets), or auto (by size)."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$"), AnyCase] = "auto"
    """Where the model runs: auto, cpu, cuda, cuda:1, mps ..."""
    expose_headers: bool = True
    """Whether responses carry the cache's own headers."""
    hit_usage: Annotated[Literal["original", "zero"], AnyCase] = "original"
    """The token counts that a hit reports: those of the stored answer, or zero."""
    allow_open: bool = False
    """Accept that anyone who reaches the listener spends a key of ours."""
    finish_abandoned: bool = False
    """Let an upstream call end, and be stored, although nobody waits for it any more."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that serve. Several share the listener, the store and one embedding process."""
    cache: CacheSettings = CacheSettings()
    key: KeySettings = KeySettings()
    limits: LimitSettings = LimitSettings()
    deadlines: DeadlineSettings = DeadlineSettings()
    batching: BatchingSettings = BatchingSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    local: LocalSettings = LocalSettings()
    distill: DistillSettings = DistillSettings()
    redis: RedisSettings = RedisSettings()
    prices: tuple[PriceSettings, ...] = ()
    """Prices of private models; they win over the price library."""
    economics: EconomicsSettings = EconomicsSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @property
    def asks_key(self) -> bool:
        """Whether callers must show a key of ours."""
        return self.virtual_keys or bool(self.proxy_keys)

    @property
    def prior(self) -> Path:
        """What `calibrate --train` leaves."""
        return self.data_dir / "prior.json"

    @property
    def redis_url(self) -> str | None:
        """The Redis that the store is in, if it is in one."""
        return None if self.store is None or self.store.startswith("sqlite:") else self.store

    @property
    def database(self) -> Path:
        """The SQLite file, where the store is in one."""
        if self.store is None or self.redis_url is not None:
            return self.data_dir / "cacheproxy.sqlite3"
        return Path(self.store.removeprefix("sqlite:///")).expanduser()

    @field_validator("upstreams")
    @classmethod
    def _names(cls, upstreams: dict[str, UpstreamSettings]) -> dict[str, UpstreamSettings]:
        for name, upstream in upstreams.items():
            if upstream.url is None and name not in PROVIDERS and name != "default":
                raise ValueError(f"{name!r} needs a url; known without one are default, {', '.join(PROVIDERS)}")
            if not _NAME.fullmatch(name) or name in _RESERVED_NAMES:
                raise ValueError(f"{name!r} cannot be a path's first segment: lower-case letters, digits, - and _ only")
        return upstreams

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.judge is JudgeName.LLM and self.judge_model is None:
            raise ValueError("judge llm needs judge_model: the model that is asked at the default upstream")
        return self

    @model_validator(mode="after")
    def _not_open(self) -> Self:
        if not self.admin_listen.is_loopback and not self.admin_token:
            raise ValueError(
                f"admin_listen {self.admin_listen} can be reached from other machines: set admin_token or use loopback"
            )
        injecting = [name for name, upstream in self.upstreams.items() if upstream.injects_key]
        if injecting and not (self.listen.is_loopback or self.asks_key or self.allow_open):
            raise ValueError(
                f"listen {self.listen} would let anyone who reaches it spend the key of upstream {injecting[0]}: "
                "listen on loopback, ask for keys with proxy_keys or virtual_keys, or say allow_open"
            )
        return self
