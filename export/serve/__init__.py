"""A server for an export, with TensorFlow Serving's API: python -m export.serve --help"""
