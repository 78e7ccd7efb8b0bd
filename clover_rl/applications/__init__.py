"""Applications that ship with their models: a folder each, with the weights and what was measured on them."""
