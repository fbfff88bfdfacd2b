"""Networks and taps in; weights between any two taps, and what is read from them, out."""
