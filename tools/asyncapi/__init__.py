"""The wire format as an AsyncAPI document, for producers and subscribers in other languages.

The document is made from the code: schemas from the structs of the wire, keys and channels from the adapter, and the
examples by deciding commands as a worker does. `make asyncapi` writes it into the package, which ships it.
"""
