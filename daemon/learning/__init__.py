"""Learning is a library: tensors in, tensors and metrics out. No database, no HTTP, no settings, no clock."""
