{{- /* spec of a RayJob, also inside a RayCronJob. */ -}}
{{- define "trainer.rayJobSpec" -}}
{{- $life := .Values.lifetime -}}
submissionMode: {{ $life.submissionMode }}
{{- if eq .Values.kind "RayJob" }}
jobId: {{ include "trainer.submission" . }}
{{- end }}
entrypoint: {{ include "trainer.entrypoint" . }}
{{- with .Values.managedBy }}
managedBy: {{ . }}
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
# The cluster is another release's: KubeRay neither deletes it nor makes a new one for a retry.
clusterSelector: {ray.io/cluster: {{ .Values.clusterSelector }}}
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

{{- /* KubeRay's two ways to end a cluster exclude each other, and only the first can be suspended. */ -}}
{{- define "trainer.deletion" -}}
{{- $ttl := int .Values.lifetime.ttlSecondsAfterFinished }}
{{- if .Values.lifetime.stoppable }}
# The only mode that can be suspended.
shutdownAfterJobFinishes: true
ttlSecondsAfterFinished: {{ $ttl }}
{{- else }}
# Workers go when the job ends, the head stays for a look at it. Deadlines and failed submissions leave no final state
# of the job: the last rule is for those.
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
