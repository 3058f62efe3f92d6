"""What features are worth: numbers of one definition each, and probes that learn classes from them."""
