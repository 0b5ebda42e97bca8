{{- /* spec of a RayCluster, also inside a RayJob. */ -}}
{{- define "trainer.rayClusterSpec" -}}
rayVersion: {{ .Chart.AppVersion | quote }}
authOptions: {mode: token}
{{- if .Values.autoscaling.enabled }}
enableInTreeAutoscaling: true
autoscalerOptions:
  {{- include "trainer.autoscalerOptions" . | nindent 2 }}
{{- end }}
headGroupSpec:
  # Again, beside the template's: they are Ray's labels of the node too, and some builds of KubeRay's CRDs drop the
  # template's, without which the NetworkPolicy and the budget would select nothing.
  labels: { {{- include "trainer.podLabels" . }}, trainer/role: head}
  # No CPU and a resource of ours: trials and workers stay off the head, drivers of nested trials go there.
  resources: {CPU: "0", trial_driver: {{ .Values.head.trialDrivers | quote }}}
  rayStartParams: {dashboard-host: 0.0.0.0}
  template:
    {{- include "trainer.podTemplate" (dict "root" . "role" "head" "group" .Values.head) | nindent 4 }}
workerGroupSpecs:
  {{- range $name, $pool := include "trainer.pools" . | fromJson }}
  - groupName: {{ $name }}
    # With autoscaling a run begins with the fewest: its job waits for all that are asked for here.
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

{{- /* v2 by name: only then KubeRay takes it for v2 (restartPolicy, a pool's own idle timeout). */ -}}
{{- define "trainer.autoscalerOptions" -}}
version: v2
idleTimeoutSeconds: {{ int .Values.autoscaling.idleTimeoutSeconds }}
upscalingMode: {{ .Values.autoscaling.upscalingMode }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources:
  {{- toYaml .Values.autoscaling.resources | nindent 2 }}
{{ include "trainer.containerSecurity" . }}
volumeMounts:
  - {name: autoscaler-tmp, mountPath: /tmp}
  # The only container of the run that has an API token.
  - {name: autoscaler-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}

{{- define "trainer.autoscalerVolumes" }}
- name: autoscaler-tmp
  emptyDir: {}
- name: autoscaler-token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end -}}
