"""Another model, the host: what its layers give, as data, and an autoencoder's reconstruction in place of it."""
