"""What `build.py` is made of: one file for each family of things that a scenario may ask for."""
