"""Does this machine run bundles?"""
