# Needs Python 3.11 or newer and make. Everything else is installed into .venv, at the versions and hashes of the lock.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# If this is set, Python writes no byte code and every Ray process compiles all its imports again (18 s for ray.init, not 7 s).
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
LOCK := image/requirements.txt
STAMP := $(VENV)/.installed
UV := $(BIN)/uv
# The Python for .venv: the first of these that is 3.11 or newer.
PYTHON ?= python3 python3.13 python3.12 python3.11

# pytest, with one line of time per layer before its own summary, and with the rule about skipped tests (tests/plugins).
PYTEST := $(BIN)/python -m pytest -p tests.plugins.layers -p tests.plugins.no_skips
# For the layers that keep one core busy and start no Ray; the tests of a file stay together and share its fixtures.
ALL_CORES := --numprocesses auto --maxprocesses 4 --dist loadfile
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up ----------------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(STAMP) ## install everything into .venv, at the locked versions and hashes

$(BIN)/python:
	@for p in $(PYTHON); do \
	    command -v $$p >/dev/null 2>&1 || continue; \
	    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$p && break; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "error: no Python 3.11 or newer among: $(PYTHON); install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! $$found -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "error: $$found has no venv module; install it (Debian, Ubuntu: the package python3-venv), or name another Python: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	$$found -m venv --clear $(VENV)

# pip installs uv, at the version and with the hashes in the lock.
$(STAMP): pyproject.toml $(LOCK) image/echarts.py Makefile | $(BIN)/python
	@[ -e $@ ] || echo "setting up $(VENV) from $(LOCK): this takes minutes, and downloads about 3 GB if nothing is cached" >&2
	@awk '/^uv==/ {p = 1; print; next} p && /^[^ ]/ {exit} p' $(LOCK) > $(VENV)/uv.txt
	@[ -x $(UV) ] && grep -qx "uv==$$($(UV) --version | cut -d ' ' -f 2) .*" $(VENV)/uv.txt || \
	    { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	      $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt; }
	@$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r $(LOCK)
	@$(BIN)/python image/echarts.py
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# The extras of the lock that `make setup` installs, and those with one of their own, of what they add (see pyproject.toml).
LOCKED := train dev ui tensorboard mlflow wandb onnx
APART := deepspeed huggingface
COMPILE = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    $(if $(UPGRADE),--upgrade) --quiet --custom-compile-command "make lock" pyproject.toml

.PHONY: lock
lock: ## update the locks after a change in pyproject.toml (UPGRADE=1: the newest versions)
	$(COMPILE) $(LOCKED:%=--extra %) -o $(LOCK)
	@for extra in $(APART); do \
	    $(COMPILE) --extra train --extra $$extra --constraint $(LOCK) -o image/$$extra.txt \
	        $$(sed -n 's/^\([a-z0-9][^=]*\)==.*/--no-emit-package \1/p' $(LOCK) | sort -u) && \
	    sed -i.old '/^# The following packages were excluded/,$$d' image/$$extra.txt && rm image/$$extra.txt.old || exit 1; \
	done

# --- use -------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## tune the MNIST example: 10 trials with ASHA, then test the best one, and write a page of it
	$(BIN)/trainer tune trainer_app/examples/mnist/tune.yaml --test $(ARGS)
	@$(BIN)/trainer report --output runs/demo.html

.PHONY: bench
bench: setup ## time our sweep against the code of Ray's guide (10 minutes)
	$(BIN)/python bench/sweep_vs_document.py $(ARGS)

.PHONY: screenshot
screenshot: setup ## run the MNIST sweep in a terminal and write what it showed to docs/sweep.svg
	$(BIN)/python docs/capture.py

.PHONY: screenshots
screenshots: setup ## draw the pictures of reports in docs/, with Debian's Chromium
	$(BIN)/python docs/report_pictures.py
	$(BIN)/python -m docs.ui_picture

# --- Kubernetes ------------------------------------------------------------------------------------------------------

# Each image may be named by digest too, as NAME:TAG@sha256:..., so that it never changes.
IMAGE ?= trainer:dev
PYTHON_IMAGE ?= python:3.11-slim-bookworm
# More extras of pyproject.toml that the image gets: tensorboard mlflow wandb onnx deepspeed huggingface.
EXTRAS ?=
CLUSTER ?= trainer
NAMESPACE ?= trainer
KIND_IMAGE ?= kindest/node:v1.34.4
KIND_CONFIG ?= k8s/kind.yaml
# The nodes that run Ray's pods: the image is 7 GB, so not all of them.
KIND_NODES ?= $(CLUSTER)-worker,$(CLUSTER)-worker2
MINIO_IMAGE ?= quay.io/minio/minio:RELEASE.2026-02-12T20-18-48Z
OPERATOR_IMAGE ?= quay.io/kuberay/operator:v1.6.0
OPERATOR_NAME = $(firstword $(subst :, ,$(OPERATOR_IMAGE)))
# A file with KubeRay's objects. Empty: KubeRay's chart.
OPERATOR_MANIFEST ?=
OPERATOR_CHART ?= https://ray-project.github.io/kuberay-helm
VALUES ?= kind
# kubectl and the launcher use this cluster, whatever the current context is.
KUBE := kubectl --context kind-$(CLUSTER)
NICE := nice -n 10
SUBMIT = $(BIN)/trainer submit

need = @command -v $(1) >/dev/null || { echo "error: $(1) is not on PATH; install it" >&2; exit 1; }

.PHONY: image image-smoke
image: ## build the image (IMAGE=name:tag, EXTRAS="mlflow wandb"): minutes, or seconds after a change of code only
	$(call need,docker)
	DOCKER_BUILDKIT=1 $(NICE) docker build --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) --build-arg EXTRAS="$(EXTRAS)" --tag $(IMAGE) .

image-smoke: image ## check the image: imports, versions, a read-only root
	docker run --rm --read-only --tmpfs /tmp --network none $(IMAGE) python /opt/smoke.py

SBOM ?= dist
.PHONY: sbom
sbom: setup ## write CycloneDX bills of materials of the lock and of the image to dist/
	@mkdir -p $(SBOM)
	$(BIN)/python image/sbom.py $(LOCK) > $(SBOM)/sbom-lock.cdx.json
	@if docker image inspect $(IMAGE) >/dev/null 2>&1; then \
	    docker run --rm --network none $(IMAGE) python /opt/sbom.py > $(SBOM)/sbom-image.cdx.json; \
	else echo "no image $(IMAGE): only the lock's; make image builds it" >&2; fi

.PHONY: kind-up kind-load kind-down
kind-up: image ## make a kind cluster with the image, the operator and MinIO (CLUSTER=name), or what is missing of it
	$(call need,kind)
	$(call need,kubectl)
	@kind get clusters 2>/dev/null | grep -qx $(CLUSTER) || \
	    $(NICE) kind create cluster --name $(CLUSTER) --config $(KIND_CONFIG) --image $(KIND_IMAGE) --wait 180s
	@$(KUBE) apply -f k8s/namespace.yaml
	@$(MAKE) --no-print-directory operator minio kind-load

kind-load: ## load the image onto the nodes of KIND_NODES: 2 minutes a node
	$(call need,kind)
	$(call need,docker)
	@began=$$(date +%s); $(NICE) kind load docker-image --name $(CLUSTER) --nodes $(KIND_NODES) $(IMAGE) && \
	    echo "loaded onto $(KIND_NODES) in $$(($$(date +%s) - began)) s"

kind-down: ## delete the kind cluster
	$(call need,kind)
	kind delete cluster --name $(CLUSTER)

.PHONY: operator minio
operator: setup ## install the KubeRay operator (from a file: OPERATOR_MANIFEST=file)
	$(call need,kubectl)
ifneq ($(OPERATOR_MANIFEST),)
	@if docker image inspect $(OPERATOR_IMAGE) >/dev/null 2>&1; then kind load docker-image --name $(CLUSTER) $(OPERATOR_IMAGE); fi
	$(BIN)/python k8s/crds.py $(OPERATOR_MANIFEST) | $(KUBE) apply --server-side --force-conflicts -f - >/dev/null
	$(KUBE) rollout status deployment/kuberay-operator -n kuberay-system --timeout 180s
else
	$(call need,helm)
	helm upgrade --install kuberay-operator kuberay-operator --repo $(OPERATOR_CHART) --version 1.6.0 \
	    --set image.repository=$(OPERATOR_NAME) --set image.tag=$(OPERATOR_IMAGE:$(OPERATOR_NAME):%=%) \
	    --kube-context kind-$(CLUSTER) --namespace kuberay-system --create-namespace --wait
endif

minio: setup ## install MinIO with a bucket, a user, and a Secret for the runs in NAMESPACE
	$(call need,kubectl)
	@if docker image inspect $(MINIO_IMAGE) >/dev/null 2>&1; then kind load docker-image --name $(CLUSTER) $(MINIO_IMAGE); fi
	sed 's|image: quay.io/minio/minio:.*|image: $(MINIO_IMAGE)|' k8s/minio.yaml | $(KUBE) apply -f -
	$(BIN)/python k8s/minio_keys.py root --context kind-$(CLUSTER)
	$(KUBE) rollout status deployment/minio -n minio --timeout 180s
	$(BIN)/python k8s/minio_keys.py user --context kind-$(CLUSTER) --namespace $(NAMESPACE)

.PHONY: submit-train submit-tune
submit-train: setup ## train the MNIST example on the kind cluster and follow it (ARGS="--set pools.cpu.replicas=1")
	$(call need,helm)
	$(SUBMIT) train trainer_app/examples/mnist/train.yaml data.init_args.source=digits scaling.num_workers=2 \
	    --values $(VALUES) --namespace $(NAMESPACE) --context kind-$(CLUSTER) --follow $(ARGS)

submit-tune: setup ## tune the MNIST example on the kind cluster: 4 trials on 2 workers
	$(call need,helm)
	$(SUBMIT) tune trainer_app/examples/mnist/tune.yaml data.init_args.source=digits tune.num_samples=4 \
	    --values $(VALUES) --namespace $(NAMESPACE) --context kind-$(CLUSTER) --follow $(ARGS)

# Manifests of each kind that kubectl can apply as they are, for the namespace `trainer` of the kind cluster.
RENDERED ?= k8s/rendered
VALUES_README ?= helm/trainer/README.md
RENDER = $(BIN)/trainer render
MNIST := trainer_app/examples/mnist

.PHONY: manifests
manifests: setup ## update k8s/rendered and the chart's README (tests fail if they are out of date)
	$(call need,helm)
	@mkdir -p $(RENDERED)
	@for task in train tune; do \
	    $(RENDER) $$task $(MNIST)/$$task.yaml data.init_args.source=digits --values kind --namespace trainer \
	        --name rendered-$$task --set run.submission=rendered-$$task > $(RENDERED)/rayjob-$$task.yaml || exit 1; \
	done
	@$(RENDER) tune $(MNIST)/tune.yaml data.init_args.source=digits --values kind --namespace trainer \
	    --name rendered-nightly --set kind=RayCronJob --set "cron.schedule=0 3 * * *" --set run.submission= \
	    > $(RENDERED)/raycronjob.yaml
	@helm template rendered-cluster helm/trainer --values helm/values/kind.yaml --set kind=RayCluster \
	    --namespace trainer --skip-tests > $(RENDERED)/raycluster.yaml
	@$(BIN)/python k8s/values_readme.py > $(VALUES_README).new || { rm -f $(VALUES_README).new; exit 1; }
	@mv $(VALUES_README).new $(VALUES_README)

# --- checks ----------------------------------------------------------------------------------------------------------

.PHONY: test test-unit test-chart chart-test test-page test-local test-projects test-huggingface test-e2e test-full
test: setup ## run the tests that need no cluster: unit, chart, page, local, projects (ARGS="-k name" for some)
	@parts=$$(mktemp); trap 'rm -f "$$parts"' EXIT; export TRAINER_TEST_PARTS="$$parts"; \
	$(PYTEST) $(ALL_CORES) $(wildcard tests/unit tests/chart tests/page) $(ARGS); quick=$$?; [ $$quick -le 1 ] || exit $$quick; \
	$(PYTEST) $(wildcard tests/local tests/projects) $(ARGS)

test-unit: setup ## run the unit tests: a minute
	@$(PYTEST) $(ALL_CORES) tests/unit $(ARGS)

chart-test: test-chart ## the same as test-chart
test-chart: setup ## run the tests of the Helm chart (skipped if helm is missing)
	@$(PYTEST) $(ALL_CORES) tests/chart $(ARGS)

test-page: setup ## run the tests of the pages of trainer report, in Debian's Chromium: a minute
	@$(PYTEST) tests/page $(ARGS)

test-local: setup ## run the tests with a Ray and an S3 server on this machine: minutes
	@$(PYTEST) tests/local $(ARGS)

test-projects: setup ## run other people's projects, by themselves and by `trainer` (ARGS=--full: all of them, 10 minutes)
	@$(PYTEST) tests/projects $(ARGS)

HUGGINGFACE := $(VENV)/huggingface
TEST_HUGGINGFACE = PYTHONPATH=$(CURDIR)/$(HUGGINGFACE) $(PYTEST) --full tests/local/test_hugging_face.py $(ARGS)
$(HUGGINGFACE)/.installed: image/huggingface.txt | $(STAMP)
	@$(UV) pip install --quiet --python $(BIN)/python --target $(HUGGINGFACE) --no-deps --compile-bytecode --require-hashes -r $<
	@touch $@

test-huggingface: setup $(HUGGINGFACE)/.installed ## run what needs the extra [huggingface], which is installed beside .venv (90 MB)
	@$(TEST_HUGGINGFACE)

test-e2e: setup ## run the end-to-end tests on a kind cluster of their own: 30 minutes
	@KIND_IMAGE=$(KIND_IMAGE) $(PYTEST) tests/e2e $(ARGS)

test-full: setup $(HUGGINGFACE)/.installed ## run all tests, also the slow ones marked `full` that `make test` and `make test-e2e` leave out
	@$(PYTEST) --full $(wildcard tests/unit tests/chart tests/page tests/local tests/projects) $(ARGS)
	@$(TEST_HUGGINGFACE)
	@KIND_IMAGE=$(KIND_IMAGE) $(PYTEST) --full tests/e2e $(ARGS)

.PHONY: features
features: setup ## run the tests that docs/features.md names, the slow ones too: none may be skipped (ARGS=-x goes to pytest)
	@$(BIN)/python -m tests.features $(ARGS)

.PHONY: lint
lint: setup ## check with ruff, mypy and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: setup ## format the code with ruff
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## remove .venv, caches and build output, but not runs/
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
