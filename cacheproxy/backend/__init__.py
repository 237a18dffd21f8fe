"""A local LLM server: its own process, reached over HTTP like any upstream.

    bytes in -> an API (chat, completions, messages) reads an ``Ask`` for each choice -> a fair queue, bounded
      -> an ``Engine`` gives tokens as they come -> text, tool calls, finish reason -> the API's events, or one answer

The engine is transformers' continuous batching (``batched``), with assisted decoding beside it (``speculative``).
Nothing outside this package and ``embed/local.py`` knows torch.
"""
