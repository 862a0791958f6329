"""From an architecture to programs: the block library, one-piece files, ONNX, parity and delegation reports."""
