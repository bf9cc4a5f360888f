"""Turn payloads into symbols, and symbols and bits into seconds."""


def num_symbols(num_entries: int) -> int:
    """Complex symbols for a real payload: two entries a symbol, the last one padded with a zero."""
    return (num_entries + 1) // 2


def uplink_s(symbols: int, bandwidth_hz: float) -> float:
    """Duration of an analog uplink at one complex symbol per second and hertz."""
    return symbols / bandwidth_hz


def transfer_s(num_floats: int, rate_bit_per_s: float, bits_per_float: int = 32) -> float:
    """Duration of an error-free digital transfer of single-precision numbers."""
    return num_floats * bits_per_float / rate_bit_per_s
