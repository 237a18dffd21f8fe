"""OpenTelemetry: traces of requests, and metrics by the GenAI conventions. An extra; nothing else imports it."""
