"""The pure core: entities, commands, events, and the functions that decide and evolve (design §1).

Nothing here knows a server, a clock or chance.
"""
