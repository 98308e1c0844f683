"""Choosing the channels of a smaller network while it trains: coupled channels, their worth, and when they go."""
