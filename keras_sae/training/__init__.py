"""Training: the exact objective, L-BFGS, minibatches, checkpoints, gradient checks."""
