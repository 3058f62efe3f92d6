"""Trained encoders as files to deploy: python -m export --help"""
