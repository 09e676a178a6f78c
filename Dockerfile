# Two stages: `runtime` is what a board runs (linux/arm64 and amd64, no torch); `export` makes bundles.
#   docker build --target runtime -t edge-deploy .
#   docker run --rm -v "$PWD:/data" edge-deploy transcribe /data/bundle /data/audio.wav
FROM python:3.11-slim AS runtime
RUN useradd --create-home edge
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY edge_asr_deploy edge_asr_deploy
COPY recipes recipes
RUN pip install --no-cache-dir .
USER edge
WORKDIR /data
ENTRYPOINT ["edge-deploy"]

FROM runtime AS export
# PyPI's torch for amd64 brings CUDA along; --build-arg TORCH_INDEX=URL takes it from an index of CPU wheels instead.
ARG TORCH_INDEX=""
USER root
RUN pip install --no-cache-dir torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    && pip install --no-cache-dir "/app[export,demo]"
USER edge
