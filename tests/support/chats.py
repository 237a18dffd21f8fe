"""Chat completions, read, told and put together."""

from cacheproxy.wire.openai_chat import OpenAIChat

CHAT = OpenAIChat()


def answer(message=None, finish="stop", **members):
    message = {"role": "assistant", "content": "Hi", **(message or {})}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **members}


def assembled(events):
    assembler = CHAT.assembler()
    for event in events:
        assembler.feed(event)
    return assembler
