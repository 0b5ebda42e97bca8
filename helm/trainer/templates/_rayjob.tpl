{{- /* The spec of a RayJob, also inside a RayCronJob. */ -}}
{{- define "trainer.rayJobSpec" -}}
{{- $life := .Values.lifetime -}}
submissionMode: {{ $life.submissionMode | quote }}
{{- if eq .Values.kind "RayJob" }}
jobId: {{ include "trainer.submission" . | quote }}
{{- end }}
entrypoint: {{ include "trainer.entrypoint" . | quote }}
{{- with .Values.managedBy }}
managedBy: {{ . | quote }}
{{- end }}
{{- if and $life.suspend (eq .Values.kind "RayJob") }}
suspend: true
{{- end }}
{{- with $life.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ int . }}
{{- end }}
{{- with $life.preRunningDeadlineSeconds }}
preRunningDeadlineSeconds: {{ int . }}
{{- end }}
{{- if .Values.clusterSelector }}
# The cluster belongs to another release: KubeRay does not delete it, and does not make a new one for a retry.
clusterSelector: {ray.io/cluster: {{ .Values.clusterSelector | quote }}}
runtimeEnvYAML: {{ include "trainer.runtimeEnv" . | quote }}
{{- else }}
backoffLimit: {{ int $life.backoffLimit }}
{{- include "trainer.deletion" . }}
{{- end }}
{{- if eq $life.submissionMode "K8sJobMode" }}
submitterPodTemplate:
  {{- include "trainer.podTemplate" (dict "root" . "role" "submitter" "group" .Values.submitter) | nindent 2 }}
{{- end }}
{{- if include "trainer.ownCluster" . }}
rayClusterSpec:
  {{- include "trainer.rayClusterSpec" . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* KubeRay has two ways to end a cluster, which exclude each other. Only with the first can a run be suspended. */ -}}
{{- define "trainer.deletion" -}}
{{- $ttl := int .Values.lifetime.ttlSecondsAfterFinished }}
{{- if .Values.lifetime.stoppable }}
# Only with this can the run be suspended.
shutdownAfterJobFinishes: true
ttlSecondsAfterFinished: {{ $ttl }}
{{- else }}
# The workers are deleted when the job ends, the head stays to look at it. After deadlines and failed submissions
# the job has no final state: the last rule is for those.
deletionStrategy:
  deletionRules:
    {{- range $condition := list "jobStatus: SUCCEEDED" "jobStatus: FAILED" "jobDeploymentStatus: Failed" }}
    {{- if not $.Values.autoscaling.enabled }}
    - policy: DeleteWorkers
      condition: { {{- $condition }}, ttlSeconds: 0}
    {{- end }}
    - policy: DeleteCluster
      condition: { {{- $condition }}, ttlSeconds: {{ $ttl }}}
    {{- end }}
{{- end }}
{{- end -}}
