"""What single experiments learn from, beside the data sets of `keras_sae.data`."""
