{{- /* Labels of the chart's objects, but not of Ray's pods: KubeRay's head Services select by app.kubernetes.io/name. */ -}}
{{- define "trainer.labels" -}}
app.kubernetes.io/name: trainer
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "trainer.podLabels" . }}
{{- end -}}

{{- define "trainer.podLabels" -}}
trainer/run: {{ .Release.Name | quote }}
{{- end -}}

{{- /* Labels and annotations of the RayJob, RayCluster or RayCronJob. */ -}}
{{- define "trainer.rayMetadata" -}}
name: {{ .Release.Name | quote }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "trainer.labels" . | nindent 2 }}
  {{- with .Values.queue.name }}
  # Kueue admits the run: it sets `suspend`.
  kueue.x-k8s.io/queue-name: {{ . | quote }}
  {{- end }}
annotations:
  # The launcher reads the results from there, outside the cluster.
  {{- if ne .Values.kind "RayCluster" }}
  trainer/task: {{ .Values.run.task | quote }}
  {{- end }}
  {{- with .Values.run.user }}
  trainer/user: {{ . | quote }}
  {{- end }}
  trainer/storage-uri: {{ include "trainer.storageUri" . | default (include "trainer.runFileUri" .) | quote }}
  trainer/storage-endpoint: {{ .Values.storage.endpoint | quote }}
  trainer/storage-region: {{ .Values.storage.region | quote }}
  trainer/storage-secret: {{ include "trainer.storageSecret" . | quote }}
  {{- with include "trainer.claim" . }}
  trainer/storage-claim: {{ . | quote }}
  {{- end }}
{{- end -}}

{{- /* Whether this release has Ray pods: not if its job runs on the cluster of another release, or if it only shows runs. */ -}}
{{- define "trainer.ownCluster" -}}
{{- if not (or .Values.clusterSelector (eq .Values.kind "UI")) -}}true{{- end -}}
{{- end -}}

{{- /* Whether the submitter reaches the API server: to patch the run's RayJob; of a RayCronJob, whose RayJobs have no names
       before they are created, to read when its own was. */ -}}
{{- define "trainer.apiAccess" -}}
{{- if and .Values.submitter.apiAccess (has .Values.kind (list "RayJob" "RayCronJob")) (eq .Values.lifetime.submissionMode "K8sJobMode") -}}true{{- end -}}
{{- end -}}

{{- /* The rule of a NetworkPolicy for egress to the API server. */ -}}
{{- define "trainer.apiServerEgress" -}}
- ports:
    {{- range .Values.networkPolicy.apiServer.ports }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
  to:
    {{- include "trainer.peers" (dict "where" "networkPolicy.apiServer.to" "peers" .Values.networkPolicy.apiServer.to) | nindent 4 }}
{{- end -}}

{{- /* What tells a retry from another run of the same name. Without the launcher: the same file is the same submission. */ -}}
{{- define "trainer.submission" -}}
{{ .Values.run.submission | default (printf "%s-%s" .Release.Name (sha256sum .Values.run.file | trunc 8)) }}
{{- end -}}

{{- /* The ConfigMap with the run file. That of a run never changes. That of a RayCronJob may, for the runs that follow: then
       it is a new ConfigMap, since an immutable one can't be upgraded. */ -}}
{{- define "trainer.runConfigMap" -}}
{{ .Release.Name }}-run{{ if eq .Values.kind "RayCronJob" }}-{{ sha256sum .Values.run.file | trunc 8 }}{{ end }}
{{- end -}}

{{- /* The driver's command, without any quoting: a shell of KubeRay's and one of Ray's parse it. */ -}}
{{- define "trainer.entrypoint" -}}
{{- if has .Values.run.task (list "test" "predict") -}}
trainer {{ .Values.run.task }} {{ join " " .Values.run.arguments }} --log -
{{- else if .Values.clusterSelector -}}
python -m trainer_app.pod.run_file {{ .Values.run.task }} --log -
{{- else -}}
trainer {{ .Values.run.task }} /etc/trainer/run.yaml --log -
{{- end -}}
{{- end -}}

{{- /* With a digest the tag is left out: the digest alone decides. */ -}}
{{- define "trainer.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ $.Values.image.tag }}{{ end }}
{{- end -}}

{{- /* Merge src into dst, in place, at any depth. Sprig's mergeOverwrite keeps dst where src has 0, false or "". */ -}}
{{- define "trainer.over" -}}
{{- $dst := .dst -}}
{{- range $key, $value := .src -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $dst $key)) -}}
{{- include "trainer.over" (dict "dst" (get $dst $key) "src" $value) -}}
{{- else -}}
{{- $_ := set $dst $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A pool as it is rendered, as JSON: poolDefaults, the pool's own values over them, and what follows from those.
       (dict "root" $ "pool" $given) */ -}}
{{- define "trainer.pool" -}}
{{- $pool := deepCopy .root.Values.poolDefaults -}}
{{- include "trainer.over" (dict "dst" $pool "src" (.pool | default dict)) -}}
{{- if .root.Values.autoscaling.enabled -}}
{{- $min := kindIs "invalid" $pool.minReplicas | ternary $pool.replicas $pool.minReplicas -}}
{{- $max := kindIs "invalid" $pool.maxReplicas | ternary (max (int $pool.replicas) (int $min)) $pool.maxReplicas -}}
{{- $_ := set $pool "min" (int $min) -}}
{{- $_ := set $pool "max" (int $max) -}}
{{- else -}}
{{- $_ := set $pool "min" (int $pool.replicas) -}}
{{- $_ := set $pool "max" (int $pool.replicas) -}}
{{- end -}}
{{- if $pool.spot.enabled -}}
{{- include "trainer.over" (dict "dst" $pool.nodeSelector "src" $pool.spot.nodeSelector) -}}
{{- $_ := set $pool "tolerations" (concat $pool.tolerations $pool.spot.tolerations) -}}
{{- with $pool.spot.terminationGracePeriodSeconds -}}
{{- $_ := set $pool "terminationGracePeriodSeconds" . -}}
{{- end -}}
{{- end -}}
{{- if $pool.gpu.count -}}
{{- /* On every cloud the taint of GPU nodes has the name of their resource. */ -}}
{{- $taint := dict "key" $pool.gpu.type "operator" "Exists" "effect" "NoSchedule" -}}
{{- if not (has $taint $pool.tolerations) -}}
{{- $_ := set $pool "tolerations" (append $pool.tolerations $taint) -}}
{{- end -}}
{{- end -}}
{{- $pool | toJson -}}
{{- end -}}

{{- /* All pools by name, as JSON. */ -}}
{{- define "trainer.pools" -}}
{{- $pools := dict -}}
{{- range $name, $given := .Values.pools -}}
{{- $_ := set $pools $name (include "trainer.pool" (dict "root" $ "pool" $given) | fromJson) -}}
{{- end -}}
{{- $pools | toJson -}}
{{- end -}}

{{- /* The CPUs of a pod as Ray counts them: the limit, else the request, rounded up. */ -}}
{{- define "trainer.rayCpus" -}}
{{- minf (include "trainer.amount" (default (dig "requests" "cpu" 0 .) (dig "limits" "cpu" "" .)) | float64) 1e9 | ceil | int -}}
{{- end -}}

{{- /* A Kubernetes quantity, string or number, as a number: 8Gi, 500m, 1e9, 8589934592. */ -}}
{{- define "trainer.amount" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[+]?[0-9.]+([eE][+-]?[0-9]+)?" $text -}}
{{- $sizes := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 -}}
{{- $size := 1.0 -}}
{{- range list "Ki" "Mi" "Gi" "Ti" "Pi" "Ei" -}}
{{- $size = mulf $size 1024.0 -}}
{{- $_ := set $sizes . $size -}}
{{- end -}}
{{- mulf (float64 $number) (get $sizes (trimPrefix $number $text)) | printf "%.9f" -}}
{{- end -}}

{{- /* A number of bytes as the text that the same size in Ki, Mi, Gi or Ti would be; a string as it is. */ -}}
{{- define "trainer.size" -}}
{{- if kindIs "string" . -}}
{{- . -}}
{{- else -}}
{{- $number := ceil . | int64 -}}
{{- $unit := "" -}}
{{- range list "Ki" "Mi" "Gi" "Ti" -}}
{{- if and $number (not (mod $number 1024)) -}}
{{- $number = div $number 1024 -}}
{{- $unit = . -}}
{{- end -}}
{{- end -}}
{{- $number }}{{ $unit -}}
{{- end -}}
{{- end -}}

{{- /* The resources of one pod of a pool, as JSON. Without a memory limit it is the node's, which is not known here. */ -}}
{{- define "trainer.podResources" -}}
{{- $one := dict "CPU" (include "trainer.rayCpus" .resources | int) "GPU" (int .gpu.count) -}}
{{- with dig "limits" "memory" "" .resources -}}
{{- $_ := set $one "memory" (minf (include "trainer.amount" . | float64) 9e18 | floor | int64) -}}
{{- end -}}
{{- $one | toJson -}}
{{- end -}}

{{- /* The most that the pools have, as JSON. With autoscaling Ray sees less at the start. */ -}}
{{- define "trainer.clusterResources" -}}
{{- $cpu := 0 -}}
{{- $gpu := 0 -}}
{{- range $name, $pool := include "trainer.pools" . | fromJson -}}
{{- $one := include "trainer.podResources" $pool | fromJson -}}
{{- $cpu = add $cpu (mul (int $pool.max) (int $one.CPU)) -}}
{{- $gpu = add $gpu (mul (int $pool.max) (int $one.GPU)) -}}
{{- end -}}
{{- dict "CPU" $cpu "GPU" $gpu "trial_driver" (int .Values.head.trialDrivers) | toJson -}}
{{- end -}}
