"""The use cases: commands are loaded for, decided and committed; queries are answered (design §3, §8)."""
