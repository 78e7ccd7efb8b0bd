"""Clients: of the control port and of the inference port, for the commands of this package."""
