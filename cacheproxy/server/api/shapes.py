"""What the API's models are made of: the base of answers and of what is asked, and the shapes that pages share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LATEST = 253_402_300_799
"""The last second of the year 9999: beyond it there are no calendars."""

Seconds = Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)]
"""A moment, in seconds since the epoch."""


class Told(BaseModel):
    """What the API answers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="null")


class Asked(BaseModel):
    """What the API is asked. An unknown member is an error, since a misspelt condition would select everything."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Problem(Told):
    """What went wrong."""

    code: str
    """For programs."""
    message: str
    """For people: what to do."""


class Failure(Told):
    """The one shape of errors."""

    error: Problem


class Page(Asked):
    """A part of a long list."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    """At most so many."""
    after: Annotated[str, Field(max_length=200)] = ""
    """Go on behind this: what ``next`` of the page before said."""
