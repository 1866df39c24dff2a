"""What people ask of a world model beside all iterations: what-ifs, and pictures of theirs to start from."""
