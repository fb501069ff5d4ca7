"""Do the artifacts on disk say the same, and the same as the data?"""
