{{- /* Labels of our own objects. Never on Ray's pods: KubeRay's head Services select by app.kubernetes.io/name. */ -}}
{{- define "trainer.labels" -}}
app.kubernetes.io/name: trainer
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "trainer.podLabels" . }}
{{- end -}}

{{- define "trainer.podLabels" -}}
trainer/run: {{ .Release.Name }}
{{- end -}}

{{- /* The driver's command: plain words, since a shell of KubeRay's and one of Ray's read it. */ -}}
{{- define "trainer.entrypoint" -}}
trainer {{ .Values.run.task }} /etc/trainer/run.yaml --log -
{{- end -}}

{{- define "trainer.image" -}}
{{ printf "%s:%s" .Values.image.repository .Values.image.tag }}
{{- end -}}

{{- /* s3://bucket/prefix, or nothing: then the run file's own storage.uri counts. */ -}}
{{- define "trainer.storageUri" -}}
{{- with .Values.storage -}}
{{- if .bucket -}}
{{ printf "s3://%s/%s" .bucket .prefix | trimSuffix "/" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A pool's values over poolDefaults, as JSON. (dict "root" $ "pool" $pool) */ -}}
{{- define "trainer.pool" -}}
{{- mergeOverwrite (deepCopy .root.Values.poolDefaults) (deepCopy (.pool | default dict)) | toJson -}}
{{- end -}}

{{- /* CPUs as Ray counts those of a pod: the limit, else the request, in whole ones, rounded up. */ -}}
{{- define "trainer.rayCpus" -}}
{{- $cpu := toString (default (dig "requests" "cpu" "0" .) (dig "limits" "cpu" "" .)) -}}
{{- if hasSuffix "m" $cpu -}}
{{ ceil (divf (trimSuffix "m" $cpu | float64) 1000.0) | int }}
{{- else -}}
{{ ceil (float64 $cpu) | int }}
{{- end -}}
{{- end -}}

{{- /* What the pools give at most, as JSON: what Ray sees at the start of an autoscaled run is less. */ -}}
{{- define "trainer.clusterResources" -}}
{{- $cpu := 0 -}}
{{- $gpu := 0 -}}
{{- range $name, $given := .Values.pools -}}
{{- $pool := include "trainer.pool" (dict "root" $ "pool" $given) | fromJson -}}
{{- $cpu = add $cpu (mul (int $pool.replicas) (include "trainer.rayCpus" $pool.resources | int)) -}}
{{- $gpu = add $gpu (mul (int $pool.replicas) (int $pool.gpu.count)) -}}
{{- end -}}
{{- dict "CPU" $cpu "GPU" $gpu "trial_driver" (int .Values.head.trialDrivers) | toJson -}}
{{- end -}}
