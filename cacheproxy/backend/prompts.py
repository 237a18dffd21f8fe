"""From messages to token numbers, by the tokenizer's chat template. What does not fit is refused with the limit."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cacheproxy.backend.engine import Sampling
from cacheproxy.backend.speech import Speech
from cacheproxy.errors import BadRequest, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cacheproxy.backend.loading import Loaded
    from cacheproxy.jsontext import JsonObject

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model reads it. ``text`` is set where an answer may hold more than text."""

    tokens: tuple[int, ...]
    text: str | None = None
    tools: tuple[JsonObject, ...] = ()


class Prompter:
    """Makes prompts for one model, and reads its answers. ``context`` bounds a prompt with its answer, in tokens."""

    def __init__(self, loaded: Loaded, *, context: int) -> None:
        self.model = loaded.name
        self.context = context
        self._loaded = loaded
        self._template = _response_template(loaded)
        # One thread: tokenizers keep state, and a long prompt must not hold up the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    async def chat(
        self, messages: Sequence[JsonObject], *, tools: Sequence[JsonObject] = (), more: JsonObject | None = None
    ) -> Prompt:
        """The prompt of a conversation in OpenAI's form. ``more`` goes to the template. Raises ``BadRequest``."""
        return await self._apart(lambda: self._chat(messages, tools, more or {}))

    async def text(self, text: str) -> Prompt:
        """The prompt of a text to be continued. Raises ``BadRequest``."""
        return await self._apart(lambda: self._fitting(self._loaded.tokenizer.encode(text)))

    def tokens(self, tokens: Sequence[int]) -> Prompt:
        """The prompt that these token numbers are. Raises ``BadRequest``."""
        last = self._loaded.model.get_input_embeddings().weight.shape[0] - 1
        if not tokens or not all(0 <= token <= last for token in tokens):
            raise BadRequest(f"A prompt of tokens must hold numbers from 0 to {last}, and at least one.")
        return self._fitting(list(tokens))

    def room(self, prompt: Prompt, wanted: int | None) -> int:
        """How many tokens the answer may have: what was asked for, at most what is left."""
        left = self.context - len(prompt.tokens)
        return left if wanted is None else min(wanted, left)

    def sampling(self) -> Sampling:
        """What the model's makers recommend, and plain sampling where they are silent."""
        config = self._loaded.model.generation_config
        told: dict[str, Any] = {} if config is None else config.to_dict()
        return Sampling(
            temperature=float(told.get("temperature") or 1.0),
            top_p=float(told.get("top_p") or 1.0),
            top_k=int(told.get("top_k") or 0) if told.get("do_sample") else 0,
        )

    def speech(self, prompt: Prompt, stops: Sequence[str]) -> Speech:
        """A new reader of one answer to a prompt."""
        parser = None
        if prompt.text is not None and self._template is not None:
            from transformers.utils.chat_parsing.response_parser import ResponseParser  # noqa: PLC0415 - heavy

            parser = ResponseParser(self._template, prefix=prompt.text, tools=list(prompt.tools))
        return Speech(self._loaded.tokenizer, end_tokens=self._loaded.end_tokens, stops=stops, parser=parser)

    def word(self, token: int) -> str:
        """One token as text."""
        return str(self._loaded.tokenizer.decode([token]))

    def aclose(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _apart(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _chat(self, messages: Sequence[JsonObject], tools: Sequence[JsonObject], more: JsonObject) -> Prompt:
        tokenizer = self._loaded.tokenizer
        template = tokenizer.chat_template
        if template is None:
            raise BadRequest(f"{self.model} has no chat template: use /v1/completions.")
        if tools and (self._template is None or "tools" not in str(template)):
            raise BadRequest(
                f"{self.model} cannot call tools: its tokenizer does not say how it is asked to, or how it does."
            )
        from jinja2.exceptions import TemplateError  # noqa: PLC0415 - comes with transformers

        try:
            text = tokenizer.apply_chat_template(
                list(messages), tools=list(tools) or None, add_generation_prompt=True, tokenize=False, **more
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise BadRequest(f"The chat template of {self.model} does not accept these messages: {error}") from error
        prompt = self._fitting(tokenizer.encode(str(text), add_special_tokens=False))
        return prompt if self._template is None else Prompt(prompt.tokens, str(text), tuple(tools))

    def _fitting(self, tokens: list[int]) -> Prompt:
        if not tokens:
            raise BadRequest("The prompt is empty.")
        if len(tokens) >= self.context:
            raise BadRequest(
                f"The prompt has {len(tokens)} tokens; {self.model} takes at most {self.context}, the answer included."
            )
        return Prompt(tuple(tokens))


def _response_template(loaded: Loaded) -> Any:
    """How answers of this model are read: as its tokenizer says, or as transformers knows for its family."""
    from transformers.cli.serving.utils import get_response_template  # noqa: PLC0415 - heavy
    from transformers.utils.chat_parsing.response_templates import load_response_template  # noqa: PLC0415

    template = get_response_template(loaded.tokenizer, loaded.model)
    try:
        return None if template is None else load_response_template(template)
    except ValueError as error:
        raise ConfigError(f"{loaded.name}: its tokenizer's response_template cannot be used: {error}") from error
