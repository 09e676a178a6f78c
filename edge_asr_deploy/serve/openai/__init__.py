"""OpenAI's paths for speech: transcriptions, translations, models; and health and metrics beside them."""
