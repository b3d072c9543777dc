"""Export of a config's model: what is exported, the file formats, and the job that checks a written file.

A written file holds the weights and runs without this package: logits of a classifier, or the feature maps of
a backbone. Imports nothing: ``tools/model_converters/export.py -h`` must not wait for torch.
"""
