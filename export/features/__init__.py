"""Features of whole data sets by an exported model: python -m export.features --help"""
