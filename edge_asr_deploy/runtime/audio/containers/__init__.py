"""What an audio file says about itself: how many recordings it holds, where each begins, and how long it is.

libsndfile, which decodes all of them, reads the first recording of a file, believes the sizes in its header, and does
not report what is missing.
"""
