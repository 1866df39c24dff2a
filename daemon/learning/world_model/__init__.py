"""The world model: an autoencoder, a causal video transformer, and exact cached imagination."""
