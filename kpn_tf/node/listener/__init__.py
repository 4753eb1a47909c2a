"""The way in: associations are accepted, objects checked and stored."""
