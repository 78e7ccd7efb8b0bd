"""Routing: which instance serves which request, and each request answered exactly once."""
