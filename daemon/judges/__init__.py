"""Judges that live elsewhere: reached over a wire, paid for, sometimes away."""
