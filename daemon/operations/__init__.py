"""What whoever runs the daemon does with it: look it over, keep a copy, throw away what is old."""
