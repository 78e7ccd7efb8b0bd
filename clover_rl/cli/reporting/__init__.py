"""The page of `clover-rl report`: reading results, drawing figures, writing one HTML file."""
