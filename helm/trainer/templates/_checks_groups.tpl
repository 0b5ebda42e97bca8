{{- /* Head and pools, each by itself. */ -}}
{{- define "trainer.checkGroups" -}}
{{- if not .Values.pools -}}
{{- fail "pools is empty: a run needs at least one" -}}
{{- end -}}
{{- include "trainer.checkGroup" (dict "name" "head" "group" .Values.head) -}}
{{- range $name, $pool := include "trainer.pools" . | fromJson -}}
{{- $where := printf "pools.%s" $name -}}
{{- include "trainer.checkGroup" (dict "name" $where "group" $pool) -}}
{{- if $.Values.autoscaling.enabled -}}
{{- if gt (int $pool.min) (int $pool.max) -}}
{{- fail (printf "%s.minReplicas (%d) is greater than its maxReplicas (%d)" $where (int $pool.min) (int $pool.max)) -}}
{{- end -}}
{{- else -}}
{{- range $key := list "minReplicas" "maxReplicas" "idleTimeoutSeconds" -}}
{{- if not (kindIs "invalid" (index $pool $key)) -}}
{{- fail (printf "%s.%s is %d, but autoscaling.enabled is false; enable it, or set replicas instead" $where $key (int (index $pool $key))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Names of variables that hold secrets: the pattern of trainer_app/redact.py. */ -}}
{{- define "trainer.secretName" -}}
(?i)(pass(word|wd|phrase)|credential|signature|(access|api|private|secret)[_-]?(access[_-]?)?key)s?([_-]?(id|value|\d+))?$|((^|[_-]|auth|client|session)(token|secret|sig)|(?-i:[a-z]Token))([_-]?(value|\d+))?$
{{- end -}}

{{- /* A variable that KubeRay, Ray or the chart sets, or one that belongs into a Secret. (dict "where" "name" "value") */ -}}
{{- define "trainer.checkVariable" -}}
{{- if regexMatch "^(TRAINER_.*|RAY_(enable_autoscaler_v2|ADDRESS|PORT|IP|CLUSTER_NAME|NODE_TYPE_NAME|AUTH_.*|REDIS_ADDRESS|external_storage_namespace|DASHBOARD_ADDRESS|JOB_.*|OVERRIDE_.*|TMPDIR)|REDIS_(USERNAME|PASSWORD)|FQ_RAY_IP)$" .name -}}
{{- fail (printf "%s sets %s, which is reserved for the chart, Ray and KubeRay" .where .name) -}}
{{- end -}}
{{- if regexMatch "^(LD_.*|PYTHON(PATH|HOME|STARTUP|USERBASE|PLATLIBDIR|EXECUTABLE|BREAKPOINT|INSPECT|PYCACHEPREFIX)|PATH|IFS|PS4|SHELLOPTS|BASHOPTS|PROMPT_COMMAND|BASH_(ENV|FUNC_.*)|ENV|VIRTUAL_ENV|KUBERNETES_.*|GCONV_PATH|GLIBC_TUNABLES|OPENSSL_(CONF|MODULES|ENGINES)|CUDA_INJECTION64_PATH|RAY_(RUNTIME_ENV_HOOK|.*LD_PRELOAD.*))$" .name -}}
{{- fail (printf "%s sets %s, which decides what code the pod runs; build it into the image" .where .name) -}}
{{- end -}}
{{- if regexMatch "^(BOTO_CONFIG|AWS_(ENDPOINT_URL.*|IGNORE_CONFIGURED_ENDPOINT_URLS|(DEFAULT_)?REGION|CA_BUNDLE|CONFIG_FILE|SHARED_CREDENTIALS_FILE|(DEFAULT_)?PROFILE|EC2_METADATA_SERVICE_.*|CONTAINER_.*|ROLE_ARN|WEB_IDENTITY_TOKEN_FILE|DATA_PATH|LOGIN_CACHE_DIRECTORY))$" .name -}}
{{- fail (printf "%s sets %s, which decides where the storage's keys come from and go to; use storage.endpoint, storage.region, storage.caBundle, storage.existingSecret and serviceAccount" .where .name) -}}
{{- end -}}
{{- if and (regexMatch (include "trainer.secretName" .) .name) .value -}}
{{- fail (printf "%s has a value for %s; take it from a Secret, with storage.existingSecret or valueFrom" .where .name) -}}
{{- end -}}
{{- if regexMatch "://[^\\s/?#'\"]*@" (toString .value) -}}
{{- fail (printf "%s has a URI with a user or password for %s; take it from a Secret, with valueFrom" .where .name) -}}
{{- end -}}
{{- end -}}

{{- /* Variables, volumes and sizes of a group. */ -}}
{{- define "trainer.checkGroup" -}}
{{- $name := .name -}}
{{- $group := .group -}}
{{- range $group.env -}}
{{- include "trainer.checkVariable" (dict "where" (printf "%s.env" $name) "name" .name "value" (get . "value")) -}}
{{- end -}}
{{- $volumes := dict -}}
{{- range $group.volumes -}}
{{- if or (has .name (list "tmp" "work" "run" "shm" "shared-mem" "ca" "storage" "ray-logs" "autoscaler-tmp" "autoscaler-token" "api-token")) (hasKey $volumes .name) -}}
{{- fail (printf "%s.volumes has the name %s, which is used twice or is reserved for the chart" $name .name) -}}
{{- end -}}
{{- $_ := set $volumes .name true -}}
{{- end -}}
{{- range $group.volumeMounts -}}
{{- if not (hasKey $volumes .name) -}}
{{- fail (printf "%s.volumeMounts names the volume %s, which is not one of its volumes: %s" $name .name (keys $volumes | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $path := clean (printf "/%s" .mountPath) -}}
{{- if or (regexMatch "^/(dev|bin|sbin|lib(32|64)?|proc|sys|boot|tmp/ray|work|mnt/storage|opt/venv|etc/trainer(-ca)?|etc/(ld\\.so[^/]*|hosts|resolv\\.conf|nsswitch\\.conf|passwd|group|ssl|pki)|usr/(local/)?(bin|sbin|lib(32|64)?)|(var/)?run/secrets)(/|$)" $path) (has $path (list "/" "/tmp" "/mnt" "/opt" "/etc" "/usr" "/usr/local" "/var" "/var/run" "/run")) -}}
{{- fail (printf "%s.volumeMounts mounts over %s, which the image or the chart needs" $name .mountPath) -}}
{{- end -}}
{{- if regexMatch "(^|/)\\.\\.(/|$)" (printf "%s/%s" .mountPath (get . "subPath" | default "")) -}}
{{- fail (printf "%s.volumeMounts has a path with '..': %s" $name .mountPath) -}}
{{- end -}}
{{- end -}}
{{- $memory := dig "limits" "memory" "" $group.resources -}}
{{- if and $group.shmSize $memory -}}
{{- if gt (include "trainer.amount" $group.shmSize | float64) (include "trainer.amount" $memory | float64) -}}
{{- fail (printf "%s.shmSize (%s) is greater than its memory limit (%s), against which it counts" $name (include "trainer.size" $group.shmSize) (include "trainer.size" $memory)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
