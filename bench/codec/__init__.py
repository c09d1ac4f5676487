"""The codec beside other codecs of the external term format."""
