"""Experiments, each a command: python -m train.<experiment> --help"""
