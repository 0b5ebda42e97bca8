# One image for head, workers and submitter. Also built by BuildKit of Docker 20.10: no `# syntax=` line, no heredocs.
# By digest, so that it never changes: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS wanted
COPY pyproject.toml image/wanted.py /build/
ARG EXTRAS=
RUN cd /build && python3 wanted.py train ui > wanted.toml && python3 wanted.py train ui ${EXTRAS} > extras.toml

# pip installs uv, with the hash in the lock. The image gets neither: the steps below mount what they need in /tmp.
FROM ${PYTHON_IMAGE} AS tools
COPY image/requirements.txt /build/
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/uv \
 && awk '/^uv==/ {p = 1; print; next} p && /^[^ ]/ {exit} p' /build/requirements.txt > /build/uv.txt \
 && /opt/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /build/uv.txt

FROM scratch AS source
COPY pyproject.toml README.md LICENSE /
COPY helm /helm
COPY trainer_app /trainer_app

FROM ${PYTHON_IMAGE}

# If it is set, Python writes no byte code, and every Ray process compiles all its imports again (18 s for ray.init, not 7 s).
ENV PYTHONDONTWRITEBYTECODE= \
    VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    UV_LINK_MODE=copy

# Dependencies: 6 GB that change only with the lock.
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=bind,from=tools,source=/opt/uv/bin/uv,target=/tmp/uv \
    --mount=type=bind,from=wanted,source=/build/wanted.toml,target=/tmp/build/pyproject.toml \
    --mount=type=bind,source=image/requirements.txt,target=/tmp/build/requirements.txt \
    python3 -m venv /opt/venv --without-pip \
 && cd /tmp/build \
 && /tmp/uv pip install --quiet --require-hashes --compile-bytecode \
    -r pyproject.toml --extra train --extra ui -c requirements.txt

# What EXTRAS names, by --build-arg EXTRAS="mlflow wandb": a layer of its own. deepspeed is built from its source archive.
ARG EXTRAS=
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=bind,from=tools,source=/opt/uv/bin/uv,target=/tmp/uv \
    --mount=type=bind,from=wanted,source=/build/extras.toml,target=/tmp/build/pyproject.toml \
    --mount=type=bind,source=image/requirements.txt,target=/tmp/build/requirements.txt \
    --mount=type=bind,source=image/deepspeed.txt,target=/tmp/build/deepspeed.txt \
    --mount=type=bind,source=image/huggingface.txt,target=/tmp/build/huggingface.txt \
    [ -z "${EXTRAS}" ] || { cd /tmp/build && DS_BUILD_OPS=0 /tmp/uv pip install --quiet --require-hashes \
    --compile-bytecode --no-build-isolation-package deepspeed \
    -r pyproject.toml --extra train --extra ui $(printf -- '--extra %s ' ${EXTRAS}) \
    -c requirements.txt -c deepspeed.txt -c huggingface.txt; }

# The code, in its own layer, which takes seconds.
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=bind,from=tools,source=/opt/uv/bin/uv,target=/tmp/uv \
    --mount=type=bind,from=source,target=/tmp/source,rw \
    --mount=type=bind,source=image/requirements.txt,target=/tmp/requirements.txt \
    /tmp/uv pip install --quiet --no-deps --compile-bytecode --require-build-hashes -b /tmp/requirements.txt /tmp/source \
 && useradd --uid 1000 --user-group --no-create-home --home-dir /tmp trainer
COPY image/smoke.py image/sbom.py /opt/

# In the pods the root is read-only and /tmp is writable, so HOME is there. Python imports from the working directory:
# an image FROM this one has its modules in /app.
ENV HOME=/tmp \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 1000:1000
CMD ["trainer", "--help"]
