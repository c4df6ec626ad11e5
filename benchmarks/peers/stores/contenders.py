"""The session stores that are compared: one table. No store is imported before it is asked for."""

import importlib
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.peers.stores.contract import Store


@dataclass(frozen=True)
class Contender:
    """A store's address, and its environment."""

    module: str
    """Its module in this package."""
    name: str
    """Its class there."""
    environment: str | None = None
    """Its requirements, `requirements/<environment>.txt`; `None` for the project's own Python."""
    far: bool = False
    """Whether the last messages are read of a session of 100,000, too."""

    def make(self) -> Store[Any, Any]:
        """Return the store, not opened yet."""
        module = importlib.import_module(f"benchmarks.peers.stores.{self.module}")
        made: Store[Any, Any] = getattr(module, self.name)()
        return made


CONTENDERS: Final = {
    "bare": Contender("bare_store", "BareStore", far=True),
    "turnstream": Contender("turnstream_store", "TurnstreamStore", far=True),
    "turnstream-ticket": Contender("turnstream_store", "TurnstreamTicketStore"),
    "openai-agents": Contender("openai_agents_store", "OpenAIAgentsStore", "openai-agents"),
    "google-adk": Contender("google_adk_store", "GoogleAdkStore", "google-adk"),
    "google-adk-community": Contender("google_adk_community_store", "GoogleAdkCommunityStore", "google-adk-community"),
    "agent-framework": Contender("agent_framework_store", "AgentFrameworkStore", "agent-framework"),
    "llama-index": Contender("llama_index_store", "LlamaIndexStore", "llama-index"),
    "langgraph": Contender("langgraph_store", "LangGraphStore", "langgraph"),
}
