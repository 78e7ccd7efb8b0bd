"""Instances: their processes as the server sees them: started, watched, raised again."""
