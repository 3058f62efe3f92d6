"""Pages for people: what a model learned (`keras_sae.report`), and how runs compare (`keras-sae compare`).

layers    what the units of a model compute, look for and give back
facts     what they do on data, measured in chunks
words     the same in sentences
pictures, charts    tiles as sprites, charts as Vega-Lite specifications
report, comparison  the two pages, rendered from the templates in page/
"""
