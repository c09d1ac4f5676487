"""The codec's one error."""


class EtfError(ValueError):
    """Bytes that are no term, or a term that has no bytes.

    Attributes:
        reason: What was wrong.
        offset: Where: the byte of the input (of the decompressed term, when it is compressed) at
            which decoding stopped; for encoding, the number of parts written before it.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} (at offset {offset})")
        self.reason = reason
        self.offset = offset
