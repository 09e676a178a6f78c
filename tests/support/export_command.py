"""What tests give to `edge-deploy export`, and the error that a user would read."""

from __future__ import annotations

from click.testing import Result

from edge_asr_deploy.errors import UserError

RECIPE = {
    "name": "whisper-test",
    "family": "whisper",
    "encoder": {"weights": {"bits": 4, "granularity": "group:16", "quantizer": {"method": "gptq"}}},
    "cross_attention": {"weights": {"bits": 4, "granularity": "group:16", "quantizer": {"method": "gptq"}}},
    "decoder": {"weights": {"bits": 3, "granularity": "group:16", "quantizer": {"method": "gptq"}}},
    "embedding": {"weights": {"bits": 5, "granularity": "group:16"}},
    "calibration": {"number": 2},
}


def user_error(result: Result) -> str:
    assert isinstance(result.exception, UserError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)
