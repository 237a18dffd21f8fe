"""What upstreams say, and an upstream that answers every question with an answer of its own."""

import json

from cacheproxy.upstream.scripted import EVENT_STREAM, Answer
from cacheproxy.wire.dialects import DIALECTS

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


def completion(text, *, finish="stop", model="gpt-4o-mini-2024-07-18", usage=True, **message):
    """A chat completion as the API gives it."""
    answer = {
        "id": "chatcmpl-original",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ],
    }
    if usage:
        answer["usage"] = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    return answer


def whole(answer, **changes):
    return Answer(**{"chunks": [json.dumps(answer).encode()], **changes})


def pieces(answer, *, usage=False, path=CHAT):
    """The events of a chat completion's stream, one by one."""
    return [event.encode() for event in DIALECTS[path].replay(answer, with_usage=usage)]


def streamed(answer, *, usage=False, path=CHAT):
    return Answer(headers=EVENT_STREAM, chunks=pieces(answer, usage=usage, path=path))


def question_of(received):
    content = json.loads(received.body)["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def echo(received):
    """An upstream that answers every question with an answer of its own."""
    body = json.loads(received.body)
    if received.url.partition("?")[0].endswith("/embeddings"):
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        if inputs and isinstance(inputs[0], int):
            inputs = [inputs]
        return whole(embedded(inputs, body.get("encoding_format", "float")))
    if received.url.endswith("/messages"):
        answer = message(f"Answer to {question_of(received)}")
        return streamed(answer, path=MESSAGES) if body.get("stream") else whole(answer)
    answer = completion(f"Answer to {question_of(received)}")
    if not body.get("stream"):
        return whole(answer)
    return streamed(answer, usage=bool((body.get("stream_options") or {}).get("include_usage")))


def message(text, **changes):
    """An Anthropic message."""
    return {
        "id": "msg_original",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 20},
        **changes,
    }


def embedded(inputs, encoding="float"):
    """An embeddings answer; the vector tells which input it is for."""
    rows = [
        {
            "object": "embedding",
            "index": at,
            "embedding": [float(len(str(value))), float(sum(map(ord, str(value))))]
            if encoding == "float"
            else f"b64 of {value}",
        }
        for at, value in enumerate(inputs)
    ]
    tokens = sum(len(value) for value in inputs)
    return {
        "object": "list",
        "data": rows,
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
