{{- /* The spec of a RayCluster, also inside a RayJob. */ -}}
{{- define "trainer.rayClusterSpec" -}}
rayVersion: {{ .Chart.AppVersion | quote }}
authOptions: {mode: token}
{{- if .Values.autoscaling.enabled }}
enableInTreeAutoscaling: true
autoscalerOptions:
  {{- include "trainer.autoscalerOptions" . | nindent 2 }}
{{- end }}
headGroupSpec:
  # The template has these labels too, but some builds of KubeRay's CRDs drop those. Without them the NetworkPolicy and
  # the PodDisruptionBudget would select nothing. These are also Ray's labels of the node.
  labels: { {{- include "trainer.podLabels" . }}, trainer/role: head}
  # No CPU, so that no trial or worker runs on the head; drivers of trials with several workers take a trial_driver.
  resources: {CPU: "0", trial_driver: {{ .Values.head.trialDrivers | quote }}}
  rayStartParams: {dashboard-host: 0.0.0.0}
  template:
    {{- include "trainer.podTemplate" (dict "root" . "role" "head" "group" .Values.head) | nindent 4 }}
workerGroupSpecs:
  {{- range $name, $pool := include "trainer.pools" . | fromJson }}
  - groupName: {{ $name | quote }}
    # With autoscaling a run starts with the least: its job waits for all replicas that are set here.
    replicas: {{ int $pool.min }}
    minReplicas: {{ int $pool.min }}
    maxReplicas: {{ int $pool.max }}
    {{- if not (kindIs "invalid" $pool.idleTimeoutSeconds) }}
    idleTimeoutSeconds: {{ int $pool.idleTimeoutSeconds }}
    {{- end }}
    labels: { {{- include "trainer.podLabels" $ }}, trainer/role: worker}
    rayStartParams: {}
    template:
      {{- include "trainer.podTemplate" (dict "root" $ "role" "worker" "group" $pool) | nindent 6 }}
  {{- end }}
{{- end -}}

{{- /* The version by name: only then KubeRay treats it as v2 (restartPolicy, idle timeout of a pool). */ -}}
{{- define "trainer.autoscalerOptions" -}}
version: v2
idleTimeoutSeconds: {{ int .Values.autoscaling.idleTimeoutSeconds }}
upscalingMode: {{ .Values.autoscaling.upscalingMode | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy | quote }}
resources:
  {{- include "trainer.resources" .Values.autoscaling | nindent 2 }}
{{ include "trainer.containerSecurity" . }}
volumeMounts:
  - {name: autoscaler-tmp, mountPath: /tmp}
  # The only container of a Ray pod that has an API token.
  - {name: autoscaler-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{- define "trainer.autoscalerVolumes" }}
- name: autoscaler-tmp
  emptyDir: {{ include "trainer.tmp" "1Gi" }}
- name: autoscaler-token
  {{- include "trainer.apiToken" . | nindent 2 }}
{{- end -}}

{{- /* A volume with a token of the pod's ServiceAccount, which expires and is renewed. */ -}}
{{- define "trainer.apiToken" -}}
projected:
  sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end -}}
