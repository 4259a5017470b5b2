"""Pictures to learn from. Each function returns a Picture; ``python -m lessons draw`` has them on the command line."""
