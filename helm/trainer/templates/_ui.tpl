{{- define "trainer.uiLabels" -}}
trainer/ui: {{ .Release.Name | quote }}
{{- end -}}

{{- define "trainer.uiName" -}}
{{ printf "%s-ui" .Release.Name | quote }}
{{- end -}}

{{- /* Metadata of the pages' objects. Their pods don't have the label trainer/run: a run's policy is not theirs. */ -}}
{{- define "trainer.uiMetadata" -}}
name: {{ include "trainer.uiName" . }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "trainer.labels" . | nindent 2 }}
{{- end -}}
