"""Models of bytes that have no tokenizer: patches, fixed, found by rules, or learnt."""
