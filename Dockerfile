# One image for head, workers and submitter. Also built by BuildKit of Docker 20.10: no `# syntax=` line, no heredocs.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS wanted
COPY pyproject.toml image/wanted.py /build/
RUN cd /build && python3 wanted.py > wanted.toml

FROM ${PYTHON_IMAGE}

# If it is set, Python writes no byte code, and every Ray process compiles all its imports again (18 s for ray.init, not 7 s).
ENV PYTHONDONTWRITEBYTECODE= \
    VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH \
    UV_LINK_MODE=copy

# Dependencies: 6 GB that change only with the lock. pip installs uv, with the hash in the lock, outside the environment,
# which has only what runs need.
COPY --from=wanted /build/wanted.toml /build/pyproject.toml
COPY image/requirements.txt /build/
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/venv --without-pip \
 && python3 -m venv /opt/uv \
 && awk '/^uv==/ {p = 1; print; next} p && /^[^ ]/ {exit} p' /build/requirements.txt > /opt/uv/uv.txt \
 && /opt/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /opt/uv/uv.txt \
 && cd /build \
 && /opt/uv/bin/uv pip install --quiet --require-hashes --compile-bytecode \
    -r pyproject.toml --extra train -c requirements.txt

# The code, in its own layer, which takes seconds.
COPY pyproject.toml README.md LICENSE /build/
COPY helm /build/helm
COPY trainer_app /build/trainer_app
RUN --mount=type=cache,target=/root/.cache \
    cd /build \
 && /opt/uv/bin/uv pip install --quiet --no-deps --compile-bytecode --require-build-hashes -b requirements.txt . \
 && useradd --uid 1000 --user-group --no-create-home --home-dir /tmp trainer
COPY image/smoke.py /opt/smoke.py

# In the pods the root is read-only and /tmp is writable, so HOME is there. Python imports from the working directory:
# an image FROM this one has its modules in /app.
ENV HOME=/tmp \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 1000:1000
CMD ["trainer", "--help"]
