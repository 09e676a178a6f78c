"""Text that a Whisper is told before the audio: a prompt, words to expect, what was said before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.decoding.request import Request


class Prompting:
    """Turns text into the tokens between `<|startofprev|>` and `<|startoftranscript|>`.

    `before` is that first token, None for a family without one. `most` tokens fit, which is half the positions of the
    decoder, as in openai/whisper. The tokenizer (22 MB, 50 ms) is read when the first text is turned.
    """

    def __init__(self, bundle: Path, before: int | None, most: int) -> None:
        self._bundle, self._before, self._most = bundle, before, most

    def given(self, request: Request) -> tuple[int, ...]:
        """The tokens of the words to expect and of the prompt. UserError where they do not fit, or nothing can."""
        asked = request.hotwords or request.prompt is not None or request.previous_text
        if not asked:
            return ()
        if self._before is None:
            option = "--hotwords" if request.hotwords else "--prompt" if request.prompt else "--previous-text"
            value = ",".join(request.hotwords) or request.prompt or "on"
            raise UserError(option, value, "this model was trained without text before the audio; use a Whisper")
        texts = [text for text in (", ".join(request.hotwords), request.prompt) if text]
        tokens = [token for text in texts for token in self._encoded(text)]
        if len(tokens) > self._most:
            option, text = (
                ("--prompt", request.prompt) if request.prompt else ("--hotwords", ",".join(request.hotwords))
            )
            remedy = f"has {len(tokens)} tokens; {self._most} fit: shorten it"
            raise UserError(option, f"{(text or '')[:40]}...", remedy)
        return tuple(tokens)

    def with_text(self, given: Sequence[int], previous: Sequence[int]) -> tuple[int, ...]:
        """What stands before the prompt proper: the tokens `given`, and of what was said before as much as fits."""
        room = self._most - len(given)
        context = (*given, *(previous[-room:] if room else ()))
        return (self._before, *context) if context and self._before is not None else ()

    def _encoded(self, text: str) -> list[int]:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._bundle / "tokenizer.json"))
        return list(tokenizer.encode(" " + text, add_special_tokens=False).ids)
