"""Established denoisers the networks are compared with, one paper one file."""
