"""Reward models: from preferences to a number for every answer."""
