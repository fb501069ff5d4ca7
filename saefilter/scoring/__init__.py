"""From rows to a scores file, shard by shard."""
