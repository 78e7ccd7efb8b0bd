"""Applications for real GPUs, built from configuration; torch is imported only when a model is made."""
