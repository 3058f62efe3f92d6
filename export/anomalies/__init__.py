"""Odd rows of whole data sets, and what in them is odd: python -m export.anomalies --help"""
