{{- /* What the driver and the workers read. The second part is trainer_app.run.cluster.ENVIRONMENT: what a local run sets
       for its processes; here each is started by a pod. */ -}}
{{- define "trainer.env" -}}
{{- if eq (include "trainer.hasRun" .) "true" }}
{{- range $name, $value := include "trainer.runEnv" . | fromJson }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- if eq .Values.kind "RayCronJob" }}
# KubeRay may create two RayJobs for one time of the schedule. With these the drivers agree, in the storage, on one.
- {name: TRAINER_CRON_SCHEDULE, value: {{ printf "%s/%s %s" .Release.Namespace .Release.Name .Values.cron.schedule | quote }}}
- {name: TRAINER_CLUSTER_CA, valueFrom: {configMapKeyRef: {name: kube-root-ca.crt, key: ca.crt, optional: true}}}
{{- end }}
{{- include "trainer.storageEnv" . }}
# Here the driver, each worker and each trial work: relative paths can be written, as on a laptop.
- {name: TRAINER_WORK, value: /work}
- {name: TRAINER_NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: TRAINER_CLUSTER_RESOURCES, value: {{ include "trainer.clusterResources" . | quote }}}
# Ray's default of 3 s between SIGTERM and SIGKILL of a driver is too short to record how a run ended.
- {name: RAY_JOB_STOP_WAIT_TIME_S, value: "30"}
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

{{- /* What belongs to the run and not to the cluster, as JSON. KubeRay names the RayJobs of a RayCronJob: each is a run
       of that name, which the driver takes from RAY_CLUSTER_NAME. */ -}}
{{- define "trainer.runEnv" -}}
{{- $env := dict -}}
{{- if eq .Values.kind "RayCronJob" -}}
{{- $_ := set $env "TRAINER_RUN_FROM_CLUSTER" "1" -}}
{{- else -}}
{{- $_ := set $env "TRAINER_RUN" .Release.Name -}}
{{- $_ := set $env "TRAINER_SUBMISSION" (include "trainer.submission" .) -}}
{{- end -}}
{{- with .Values.run.code -}}
{{- $_ := set $env "TRAINER_CODE" . -}}
{{- end -}}
{{- with .Values.lifetime.totalDeadlineSeconds -}}
{{- $_ := set $env "TRAINER_DEADLINE_S" (int . | toString) -}}
{{- end -}}
{{- with .Values.lifetime.firstStepDeadlineSeconds -}}
{{- $_ := set $env "TRAINER_FIRST_STEP_DEADLINE_S" (int . | toString) -}}
{{- end -}}
{{- $env | toJson -}}
{{- end -}}

{{- /* Only /tmp is writable: caches of libraries belong there, whatever an image says. Those that the user sets are left
       out. (dict "root" $ "group" group) */ -}}
{{- define "trainer.cacheEnv" -}}
{{- $env := dict "HOME" "/tmp" "XDG_CACHE_HOME" "/tmp/.cache" "HF_HOME" "/tmp/.cache/huggingface" "TORCH_HOME" "/tmp/.cache/torch" "MPLCONFIGDIR" "/tmp/.cache/matplotlib" -}}
{{- range include "trainer.userEnv" . | fromJsonArray -}}
{{- $_ := unset $env .name -}}
{{- end -}}
{{- $env | toJson -}}
{{- end -}}

{{- /* The variables of the command line, and those of the group that it does not name, as a JSON list. Kubernetes reads
       $(NAME) in a value, and $$ as $: what was given literally stays what it is. */ -}}
{{- define "trainer.userEnv" -}}
{{- $env := list -}}
{{- range $name, $value := .root.Values.run.env -}}
{{- $env = append $env (dict "name" $name "value" ($value | replace "$" "$$")) -}}
{{- end -}}
{{- range .group.env -}}
{{- if not (hasKey $.root.Values.run.env .name) -}}
{{- $env = append $env . -}}
{{- end -}}
{{- end -}}
{{- $env | toJson -}}
{{- end -}}

{{- /* Ray's runtime_env of a job on another release's cluster, whose pods have nothing of this run. */ -}}
{{- define "trainer.runtimeEnv" -}}
{{- $env := merge (include "trainer.runEnv" . | fromJson) .Values.run.env -}}
{{- with include "trainer.storageUri" . -}}
{{- $_ := set $env "TRAINER_STORAGE_URI" . -}}
{{- end -}}
{{- $_ := set $env "TRAINER_RUN_FILE" .Values.run.file -}}
{{- dict "env_vars" $env | toJson -}}
{{- end -}}

{{- /* Ray drains for 30 s of the grace period. If a cloud gives less, it drains for 5 s less than that. */ -}}
{{- define "trainer.drainEnv" -}}
{{- if lt (int .terminationGracePeriodSeconds) 35 }}
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ max 1 (sub (int .terminationGracePeriodSeconds) 5) | quote }}}
{{- end }}
{{- end -}}
