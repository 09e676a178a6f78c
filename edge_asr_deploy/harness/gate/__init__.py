"""The CI gate: is a bundle as good as the recorded one?"""
