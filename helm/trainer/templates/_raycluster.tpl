{{- /* spec of a RayCluster, also inside a RayJob. */ -}}
{{- define "trainer.rayClusterSpec" -}}
rayVersion: {{ .Chart.AppVersion | quote }}
authOptions: {mode: token}
headGroupSpec:
  # No CPU and a resource of ours: trials and workers stay off the head, drivers of nested trials go there.
  resources: {CPU: "0", trial_driver: {{ .Values.head.trialDrivers | quote }}}
  rayStartParams: {dashboard-host: 0.0.0.0}
  template:
    {{- include "trainer.podTemplate" (dict "root" . "role" "head" "group" .Values.head) | nindent 4 }}
workerGroupSpecs:
  {{- range $name, $given := .Values.pools }}
  {{- $pool := include "trainer.pool" (dict "root" $ "pool" $given) | fromJson }}
  - groupName: {{ $name }}
    replicas: {{ int $pool.replicas }}
    minReplicas: {{ int $pool.replicas }}
    maxReplicas: {{ int $pool.replicas }}
    rayStartParams: {}
    template:
      {{- include "trainer.podTemplate" (dict "root" $ "role" "worker" "group" $pool) | nindent 6 }}
  {{- end }}
{{- end -}}
