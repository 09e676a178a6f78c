# Three images: `runtime` is what a board runs (linux/arm64 and amd64, no torch); `serve` is that with what
# `edge-deploy serve` needs; `export` makes bundles.
#   docker build --target runtime -t edge-deploy .
#   docker run --rm -v "$PWD:/data" edge-deploy transcribe /data/bundle /data/audio.wav
FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1 AS build
WORKDIR /app
COPY edge_asr_deploy/pack/requirements-build.txt ./
RUN pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes --requirement requirements-build.txt
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY recipes recipes
COPY edge_asr_deploy edge_asr_deploy
# The pinned list is that of this kind of processor: x86_64 has a few packages more.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && for list in requirements.txt "requirements-$(uname -m).txt"; do \
        if [ -f "edge_asr_deploy/pack/$list" ]; then cat "edge_asr_deploy/pack/$list"; fi; done > requirements.txt

FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1 AS runtime
# onnxruntime reports to its maker unless told not to. `docker run -e ORT_DISABLE_TELEMETRY=0` gives it back.
ENV ORT_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_TELEMETRY=1 HF_UPDATE_DOWNLOAD_COUNTS=0 RAY_USAGE_STATS_ENABLED=0
RUN useradd --create-home edge
WORKDIR /app
COPY --from=build /app/requirements.txt ./
COPY --from=build /app/wheels wheels
RUN pip install --no-cache-dir --no-compile --no-deps --only-binary=:all: --require-hashes --requirement requirements.txt \
    && pip install --no-cache-dir --no-compile --no-deps --no-index wheels/*.whl
USER edge
WORKDIR /data
ENTRYPOINT ["edge-deploy"]

FROM runtime AS serve
USER root
COPY tools/requirements-serve.txt /app/
RUN pip install --no-cache-dir --no-compile --no-deps --only-binary=:all: --require-hashes --requirement /app/requirements-serve.txt
USER edge

FROM runtime AS export
# PyPI's torch for amd64 brings CUDA along; --build-arg TORCH_INDEX=URL takes it from an index of CPU wheels instead.
ARG TORCH_INDEX=""
USER root
COPY tools/requirements-export.txt /app/
# torch's file depends on the index; all others have the hashes of the list, and nothing else is installed.
RUN pip install --no-cache-dir torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    && pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes --requirement /app/requirements-export.txt
USER edge
