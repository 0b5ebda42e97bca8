{{- /* s3://bucket/prefix or /mnt/storage. If it is empty, storage.uri of the run file applies. */ -}}
{{- define "trainer.storageUri" -}}
{{- $storage := .Values.storage -}}
{{- if $storage.bucket -}}
{{ printf "s3://%s/%s" $storage.bucket $storage.prefix | trimSuffix "/" }}
{{- else if include "trainer.claim" . -}}
{{ printf "/mnt/storage/%s" $storage.prefix | trimSuffix "/" }}
{{- end -}}
{{- end -}}

{{- define "trainer.runFileUri" -}}
{{- (include "trainer.plan" . | fromJson).storageUri -}}
{{- end -}}

{{- /* The PersistentVolumeClaim of the run; empty if there is none. */ -}}
{{- define "trainer.claim" -}}
{{- with .Values.storage.claim -}}
{{- if .existing -}}
{{ .existing }}
{{- else if .size -}}
{{ $.Release.Name }}-storage
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trainer.storageSecret" -}}
{{- if .Values.storage.keys.accessKeyId -}}
{{ .Release.Name }}-s3
{{- else -}}
{{ .Values.storage.existingSecret }}
{{- end -}}
{{- end -}}

{{- /* Environment of all containers that open the storage. */ -}}
{{- define "trainer.storageEnv" -}}
{{- with include "trainer.storageUri" . }}
- {name: TRAINER_STORAGE_URI, value: {{ . | quote }}}
{{- end }}
{{- with .Values.storage.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_REGION, value: {{ .Values.storage.region | quote }}}
{{- if .Values.storage.caBundle.configMap }}
- {name: AWS_CA_BUNDLE, value: /etc/trainer-ca/ca.crt}
{{- end }}
{{- end -}}

{{- define "trainer.storageEnvFrom" -}}
{{- with include "trainer.storageSecret" . -}}
envFrom:
  - secretRef: {name: {{ . | quote }}}
{{- end -}}
{{- end -}}

{{- define "trainer.storageMounts" -}}
{{- if .Values.storage.caBundle.configMap }}
- {name: ca, mountPath: /etc/trainer-ca, readOnly: true}
{{- end }}
{{- if include "trainer.claim" . }}
- {name: storage, mountPath: /mnt/storage}
{{- end }}
{{- end -}}

{{- define "trainer.storageVolumes" -}}
{{- with .Values.storage.caBundle }}
{{- if .configMap }}
- name: ca
  configMap:
    name: {{ .configMap | quote }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- with include "trainer.claim" . }}
- name: storage
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- end }}
{{- end -}}

{{- define "trainer.storagePort" -}}
{{- $endpoint := .Values.storage.endpoint -}}
{{- $default := ternary "80" "443" (hasPrefix "http://" $endpoint) -}}
{{ .Values.networkPolicy.storage.port | default (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $endpoint) | default $default) | int }}
{{- end -}}
