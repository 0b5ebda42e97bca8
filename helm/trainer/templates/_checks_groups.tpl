{{- /* Head and pools, one by one. */ -}}
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
{{- fail (printf "%s.minReplicas is %d and its maxReplicas %d; the first can't be more" $where (int $pool.min) (int $pool.max)) -}}
{{- end -}}
{{- else -}}
{{- range $key := list "minReplicas" "maxReplicas" "idleTimeoutSeconds" -}}
{{- if not (kindIs "invalid" (index $pool $key)) -}}
{{- fail (printf "%s.%s is %d, which goes with autoscaling.enabled; without it set replicas" $where $key (int (index $pool $key))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What looks like a secret, as in trainer_app/redact.py. */ -}}
{{- define "trainer.secretName" -}}
(?i)(pass(word|wd|phrase)|credential|signature|(access|api|private|secret)[_-]?(access[_-]?)?key)s?([_-]?(id|value|\d+))?$|((^|[_-]|auth|client|session)(token|secret|sig)|(?-i:[a-z]Token))([_-]?(value|\d+))?$
{{- end -}}

{{- /* Names that KubeRay, Ray or the chart set, and keys that belong into a Secret. */ -}}
{{- define "trainer.checkGroup" -}}
{{- $name := .name -}}
{{- $group := .group -}}
{{- range $group.env -}}
{{- if regexMatch "^(TRAINER_.*|RAY_(enable_autoscaler_v2|ADDRESS|PORT|IP|CLUSTER_NAME|NODE_TYPE_NAME|AUTH_.*|REDIS_ADDRESS|external_storage_namespace)|REDIS_(USERNAME|PASSWORD)|FQ_RAY_IP)$" .name -}}
{{- fail (printf "%s.env sets %s, which the chart or KubeRay sets" $name .name) -}}
{{- end -}}
{{- if and (regexMatch (include "trainer.secretName" $) .name) (get . "value") -}}
{{- fail (printf "%s.env has a value for %s; keys come from a Secret: storage.existingSecret, or valueFrom" $name .name) -}}
{{- end -}}
{{- end -}}
{{- $volumes := dict -}}
{{- range $group.volumes -}}
{{- if or (has .name (list "tmp" "run" "shm" "shared-mem" "ca" "storage" "ray-logs" "autoscaler-tmp" "autoscaler-token")) (hasKey $volumes .name) -}}
{{- fail (printf "%s.volumes has the name %s twice, or it is one of the chart's" $name .name) -}}
{{- end -}}
{{- $_ := set $volumes .name true -}}
{{- end -}}
{{- range $group.volumeMounts -}}
{{- if not (hasKey $volumes .name) -}}
{{- fail (printf "%s.volumeMounts names the volume %s; its volumes have: %s" $name .name (keys $volumes | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if regexMatch "^/(tmp(/ray)?|dev/shm|etc/trainer|etc/trainer-ca|mnt/storage|opt/venv|var/run/secrets(/.*)?)?/?$" .mountPath -}}
{{- fail (printf "%s.volumeMounts mounts over %s, which is the image's or the chart's" $name .mountPath) -}}
{{- end -}}
{{- end -}}
{{- $memory := dig "limits" "memory" "" $group.resources -}}
{{- if and $group.shmSize $memory -}}
{{- if gt (include "trainer.bytes" $group.shmSize | int64) (include "trainer.bytes" $memory | int64) -}}
{{- fail (printf "%s.shmSize is %s, more than its memory limit of %s, which it counts against" $name $group.shmSize $memory) -}}
{{- end -}}
{{- end -}}
{{- end -}}
