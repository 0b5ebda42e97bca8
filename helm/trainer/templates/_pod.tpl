{{- /* The one pod of head, pools and submitter. (dict "root" $ "role" "head" "group" <values of the group>) */ -}}
{{- define "trainer.podTemplate" -}}
{{- $ := .root -}}
{{- $group := .group -}}
metadata:
  labels:
    {{- include "trainer.podLabels" $ | nindent 4 }}
    trainer/role: {{ .role }}
  {{- with $group.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ $.Release.Name }}-{{ ternary "head" "worker" (eq .role "head") }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if eq .role "submitter" }}
  restartPolicy: Never
  {{- else }}
  terminationGracePeriodSeconds: {{ $group.terminationGracePeriodSeconds }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with $.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "runtimeClassName" "priorityClassName" }}
  {{- with get $group $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ ternary "ray-job-submitter" (printf "ray-%s" .role) (eq .role "submitter") }}
      image: {{ include "trainer.image" $ }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      {{- if eq .role "submitter" }}
      # Ray's own submitter ends when the head does; this one goes on with the next.
      command: [python, -m, trainer_app.launch.in_pod, --]
      args: {{ include "trainer.entrypoint" $ | splitList " " | toJson }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources:
        {{- include "trainer.resources" $group | nindent 8 }}
      {{- if ne .role "submitter" }}
      env:
        {{- include "trainer.env" $ | nindent 8 }}
        {{- with $group.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $.Values.storage.existingSecret }}
      envFrom:
        - secretRef: {name: {{ . }}}
      {{- end }}
      {{- end }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if eq .role "head" }}
        - {name: run, mountPath: /etc/trainer, readOnly: true}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if eq .role "head" }}
    - name: run
      configMap: {name: {{ $.Release.Name }}-run}
    {{- end }}
{{- end -}}

{{- /* Kubernetes' resources with the group's GPUs, which Ray counts from the limits. */ -}}
{{- define "trainer.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- with .gpu -}}
{{- if .count -}}
{{- $_ := set $resources "limits" (set (get $resources "limits" | default dict) .type .count) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- /* What the driver and the workers read. The second part is trainer_app.cluster.ENVIRONMENT: what a local run sets
       for its processes; here each is started by a pod. */ -}}
{{- define "trainer.env" -}}
- {name: TRAINER_RUN, value: {{ .Release.Name }}}
{{- with include "trainer.storageUri" . }}
- {name: TRAINER_STORAGE_URI, value: {{ . | quote }}}
{{- end }}
- {name: TRAINER_SUBMISSION, value: {{ .Values.run.submission | quote }}}
- {name: TRAINER_CLUSTER_RESOURCES, value: {{ include "trainer.clusterResources" . | quote }}}
{{- with .Values.storage.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_REGION, value: {{ .Values.storage.region | quote }}}
- {name: RAY_TRAIN_HEALTH_CHECK_INTERVAL_S, value: "0.2"}
- {name: RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S, value: "1"}
- {name: RAY_CHDIR_TO_TRIAL_DIR, value: "0"}
- {name: TUNE_DISABLE_AUTO_CALLBACK_LOGGERS, value: "1"}
- {name: TUNE_DISABLE_SIGINT_HANDLER, value: "1"}
- {name: TUNE_GLOBAL_CHECKPOINT_S, value: "86400"}
- {name: TUNE_FUNCTION_THREAD_TIMEOUT_S, value: "30"}
- {name: TUNE_DISABLE_STRICT_METRIC_CHECKING, value: "1"}
- {name: RAY_AIR_NEW_OUTPUT, value: "0"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: JSONARGPARSE_DEPRECATION_WARNINGS, value: "off"}
- {name: RAY_DEDUP_LOGS, value: "0"}
- {name: RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, value: "0"}
- {name: PL_DISABLE_FORK, value: "1"}
{{- end -}}
