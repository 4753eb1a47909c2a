"""Deployable artefacts from trained networks, each proved against Keras in HU."""
