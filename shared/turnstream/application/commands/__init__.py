"""From stream entries to a batch that can be committed."""
