{{- /* The pod template of head, pools and submitter. (dict "root" $ "role" "head" "group" <values of the group>) */ -}}
{{- define "trainer.podTemplate" -}}
{{- $ := .root -}}
{{- $group := .group -}}
{{- $ray := ne .role "submitter" -}}
{{- $reports := and (not $ray) (include "trainer.apiAccess" $) -}}
metadata:
  labels:
    {{- include "trainer.podLabels" $ | nindent 4 }}
    trainer/role: {{ .role | quote }}
    {{- with $.Values.clusterSelector }}
    # The NetworkPolicy of that cluster lets these pods in.
    trainer/cluster: {{ . | quote }}
    {{- end }}
    {{- with $.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $group.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "trainer.podSecurity" (dict "root" $ "account" (include "trainer.account" .)) | nindent 2 }}
  {{- if $ray }}
  terminationGracePeriodSeconds: {{ int $group.terminationGracePeriodSeconds }}
  {{- else }}
  restartPolicy: Never
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "runtimeClassName" "priorityClassName" }}
  {{- with get $group $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ ternary (printf "ray-%s" .role) "ray-job-submitter" $ray }}
      image: {{ include "trainer.image" $ | quote }}
      imagePullPolicy: {{ $.Values.image.pullPolicy | quote }}
      {{- if not $ray }}
      # Ray's own submitter ends if the head is lost; this one continues with the next head. -P: the user's modules in /app
      # are not imported.
      command: [python, -P, -m, trainer_app.pod.submitter, --]
      args: {{ include "trainer.entrypoint" $ | splitList " " | toJson }}
      {{- end }}
      {{- include "trainer.containerSecurity" $ | nindent 6 }}
      resources:
        {{- include "trainer.resources" $group | nindent 8 }}
      {{- if $ray }}
      # KubeRay's default starts after 10 s and repeats every 5: a run would wait that long for each pod.
      readinessProbe:
        httpGet: {path: /api/healthz, port: 52365}
        initialDelaySeconds: 2
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 30
      env:
        {{- include "trainer.env" $ | trim | nindent 8 }}
        {{- with include "trainer.drainEnv" $group | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- range $name, $value := include "trainer.cacheEnv" (dict "root" $ "group" $group) | fromJson }}
        - {name: {{ $name }}, value: {{ $value }}}
        {{- end }}
        {{- range include "trainer.userEnv" (dict "root" $ "group" $group) | fromJsonArray }}
        - {{ toJson . }}
        {{- end }}
      {{- with include "trainer.storageEnvFrom" $ }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- else if or $reports $.Values.clusterSelector }}
      env:
        {{- if and $reports (eq $.Values.kind "RayCronJob") }}
        # KubeRay names the RayJob, and the Job of this pod like it.
        - {name: TRAINER_JOB, valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}}
        - {name: TRAINER_SCHEDULED_RAYJOB, value: {{ printf "%s/$(TRAINER_JOB)" $.Release.Namespace | quote }}}
        {{- else if $reports }}
        - {name: TRAINER_RAYJOB, value: {{ printf "%s/%s" $.Release.Namespace $.Release.Name | quote }}}
        {{- end }}
        {{- if $.Values.clusterSelector }}
        - {name: TRAINER_RUNTIME_ENV, value: {{ include "trainer.runtimeEnv" $ | replace "$" "$$" | quote }}}
        {{- end }}
      {{- end }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if $reports }}
        - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
        {{- end }}
        {{- if $ray }}
        - {name: work, mountPath: /work}
        {{- end }}
        {{- with ternary (include "trainer.rayMounts" .) "" $ray | trim }}
        {{- . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {{ include "trainer.tmp" ($ray | ternary $group.tmpSize "1Gi") }}
    {{- if $reports }}
    - name: api-token
      {{- include "trainer.apiToken" $ | nindent 6 }}
    {{- end }}
    {{- if $ray }}
    - name: work
      emptyDir: {sizeLimit: {{ include "trainer.size" $.Values.workingFolder.sizeLimit | quote }}}
    {{- end }}
    {{- with ternary (include "trainer.rayVolumes" .) "" $ray | trim }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* Whose ServiceAccount a pod has: the user's code runs as `head` and `worker`. */ -}}
{{- define "trainer.account" -}}
{{- if eq .role "head" -}}head
{{- else if and (eq .role "submitter") (include "trainer.apiAccess" .root) -}}submitter
{{- else -}}worker
{{- end -}}
{{- end -}}

{{- /* What the restricted profile requires of a pod, and its ServiceAccount. (dict "root" $ "account" "head") */ -}}
{{- define "trainer.podSecurity" -}}
{{- $own := printf "%s-%s" .root.Release.Name .account }}
serviceAccountName: {{ has .account (list "submitter" "ui") | ternary $own (.root.Values.serviceAccount.name | default $own) | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "trainer.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- /* The container's resources, numbers of bytes as text, with the group's GPUs, which Ray reads from the limits. */ -}}
{{- define "trainer.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- range $amounts := $resources -}}
{{- range $name, $amount := $amounts -}}
{{- if regexMatch "^(memory|ephemeral-storage|hugepages-.*)$" $name -}}
{{- $_ := set $amounts $name (include "trainer.size" $amount) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .gpu -}}
{{- if .count -}}
{{- $_ := set $resources "limits" (set (get $resources "limits" | default dict) .type (int .count)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- /* An emptyDir of a size; a pod that writes more to it is evicted. Empty: the node's limit. */ -}}
{{- define "trainer.tmp" -}}
{ {{- with . }}sizeLimit: {{ include "trainer.size" . | quote }}{{ end -}} }
{{- end -}}

{{- define "trainer.rayMounts" -}}
{{- if and (eq .role "head") (eq (include "trainer.hasRun" .root) "true") }}
- {name: run, mountPath: /etc/trainer, readOnly: true}
{{- end }}
{{- include "trainer.storageMounts" .root }}
{{- if .group.shmSize }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- with .group.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "trainer.rayVolumes" -}}
{{- if and (eq .role "head") (eq (include "trainer.hasRun" .root) "true") }}
- name: run
  configMap: {name: {{ include "trainer.runConfigMap" .root | quote }}}
{{- end }}
{{- include "trainer.storageVolumes" .root }}
{{- if .group.shmSize }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ include "trainer.size" .group.shmSize | quote }}}
{{- end }}
{{- if and (eq .role "head") .root.Values.autoscaling.enabled }}
{{- include "trainer.autoscalerVolumes" .root }}
{{- end }}
{{- with .group.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* A RayCluster has no run: each job that uses it brings its own. */ -}}
{{- define "trainer.hasRun" -}}
{{ and (has .Values.kind (list "RayJob" "RayCronJob")) (not .Values.clusterSelector) }}
{{- end -}}
