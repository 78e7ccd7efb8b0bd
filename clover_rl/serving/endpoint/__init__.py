"""Endpoint: the Open Inference Protocol as applications see it, and its metrics."""
