"""A message of a user as the Agent Development Kit's events say it; for both of its session services."""

from google.adk.events import Event
from google.genai import types

APP = "bench"
USER = "somebody"


def event(text: str) -> Event:
    """Return an event that a user's message makes."""
    content = types.Content(role="user", parts=[types.Part(text=text)])
    return Event(author="user", invocation_id=Event.new_id(), content=content)


def text_of(event: Event) -> str:
    """Return the text of such an event."""
    return event.content.parts[0].text
