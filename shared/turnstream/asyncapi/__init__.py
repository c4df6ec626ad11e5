"""The messages between Turnstream and its producers and subscribers, as an AsyncAPI document for other languages.

The document is made from the code: schemas from the structs of the wire, keys and channels from the adapter, and the
examples by deciding commands as a worker does. `make asyncapi` writes it to docs/asyncapi.json.
"""

from turnstream.asyncapi.document import asyncapi_document, render

__all__ = ["asyncapi_document", "render"]
