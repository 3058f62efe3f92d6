"""Runs become presets: checked, described and hashed, in a directory of presets or on the Hugging Face Hub."""
