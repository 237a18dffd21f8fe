"""Requests of the official OpenAI client."""

from __future__ import annotations

MODEL = "gpt-4o-mini"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def without_identity(answer):
    """Everything that a client sees but what every answer has of its own."""
    return {name: value for name, value in answer.to_dict().items() if name not in {"id", "created", "created_at"}}
