"""Other people's recordings, in; ours, out. One module per format."""
