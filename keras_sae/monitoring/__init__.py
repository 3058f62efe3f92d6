"""Training as it is seen from outside: bars, lines of a log file, and TensorBoard's event files."""
