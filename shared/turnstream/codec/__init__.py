"""The only encoders and decoders: commands, events, stored records and replies, as JSON by msgspec (design §8)."""
