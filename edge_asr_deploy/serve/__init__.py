"""A bundle as a service: one model in memory, asked over HTTP (OpenAI's paths) or over Wyoming.

Nothing here is part of the base install: `pip install "edge-asr-deploy[serve]"`.
"""
