{{- /* The run file against the limits of Kubernetes, and against the pools. */ -}}
{{- define "trainer.checkRun" -}}
{{- $file := .Values.run.file -}}
{{- if not $file -}}
{{- fail "run.file is empty: set it with --set-file run.file=run.yaml" -}}
{{- end -}}
{{- if gt (len $file) 900000 -}}
{{- fail (printf "run.file has %d bytes; at most 900000 fit into a ConfigMap" (len $file)) -}}
{{- end -}}
{{- if and .Values.clusterSelector (gt (len $file) 60000) -}}
{{- fail (printf "run.file has %d bytes; at most 60000 fit into the environment of a job on another cluster" (len $file)) -}}
{{- end -}}
{{- include "trainer.checkUnchanged" . -}}
{{- if and (not (include "trainer.storageUri" .)) (not .Values.clusterSelector) -}}
{{- $uri := include "trainer.runFileUri" . | default "runs" -}}
{{- if not (regexMatch "^(?i)s3a?://" $uri) -}}
{{- fail (printf "run %s would keep its results in %q, which is lost with the pod: set storage.bucket or storage.claim, or storage.uri in the run file to s3://bucket/prefix" .Release.Name $uri) -}}
{{- end -}}
{{- end -}}
{{- if include "trainer.ownCluster" . -}}
{{- include "trainer.checkScaling" . -}}
{{- end -}}
{{- end -}}

{{- /* For helm upgrade only: helm template has no cluster to look into. */ -}}
{{- define "trainer.checkUnchanged" -}}
{{- if and .Release.IsUpgrade (eq .Values.kind "RayJob") -}}
{{- $stored := "" -}}
{{- if .Values.clusterSelector -}}
{{- $job := lookup "ray.io/v1" "RayJob" .Release.Namespace .Release.Name -}}
{{- with dig "spec" "runtimeEnvYAML" "" $job -}}
{{- $stored = dig "env_vars" "TRAINER_RUN_FILE" "" (fromYaml .) -}}
{{- end -}}
{{- else -}}
{{- $stored = dig "data" "run.yaml" "" (lookup "v1" "ConfigMap" .Release.Namespace (printf "%s-run" .Release.Name)) -}}
{{- end -}}
{{- if and $stored (ne $stored .Values.run.file) -}}
{{- fail (printf "the run file of run %s can't be changed: submit a new run" .Release.Name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* All workers of a train run, or of one trial, must fit into the pools at once: in sum, and pod by pod. The head
       has no CPU; the driver of a trial of several workers takes a trial_driver there. */ -}}
{{- define "trainer.checkScaling" -}}
{{- $name := .Release.Name -}}
{{- $plan := include "trainer.plan" . | fromJson -}}
{{- $workers := int $plan.workers -}}
{{- $one := $plan.resources -}}
{{- $have := include "trainer.clusterResources" $ | fromJson -}}
{{- range $resource := list "CPU" "GPU" -}}
{{- $each := get $one $resource | default 0.0 -}}
{{- $asked := mulf (float64 $each) (float64 $workers) -}}
{{- if gt $asked (float64 (get $have $resource)) -}}
{{- fail (printf "run %s asks for %v %ss at once (scaling: %d workers of %v) but its pools have at most %v" $name $asked $resource $workers $each (get $have $resource)) -}}
{{- end -}}
{{- end -}}
{{- $fit := 0 -}}
{{- $shown := list -}}
{{- range $pool, $group := include "trainer.pools" $ | fromJson -}}
{{- $pod := include "trainer.podResources" $group | fromJson -}}
{{- $count := $workers -}}
{{- range $resource, $each := $one -}}
{{- if and (gt (float64 $each) 0.0) (not (and (eq $resource "memory") (not (hasKey $pod "memory")))) -}}
{{- $count = min $count (addf (divf (float64 (get $pod $resource | default 0)) (float64 $each)) 0.000001 | floor | int) -}}
{{- end -}}
{{- end -}}
{{- $fit = add $fit (mul (int $group.max) $count) -}}
{{- $shown = append $shown (printf "%s %d of %d CPU %d GPU" $pool (int $group.max) (int $pod.CPU) (int $pod.GPU)) -}}
{{- end -}}
{{- if lt (int $fit) $workers -}}
{{- fail (printf "run %s asks for %d workers of %s at once but its pools hold at most %d (pods: %s)" $name $workers ($one | toJson) (int $fit) (join ", " $shown)) -}}
{{- end -}}
{{- $trials := int $plan.trials -}}
{{- if and (eq $.Values.run.task "tune") (gt $workers 1) (gt $trials (int $.Values.head.trialDrivers)) -}}
{{- fail (printf "run %s asks for %d trials at once but head.trialDrivers is %d" $name $trials (int $.Values.head.trialDrivers)) -}}
{{- end -}}
{{- end -}}
