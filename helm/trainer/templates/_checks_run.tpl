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
{{- $run := fromYaml $file -}}
{{- if hasKey $run "Error" -}}
{{- fail (printf "run.file is not valid YAML: %s" $run.Error) -}}
{{- end -}}
{{- include "trainer.checkUnchanged" . -}}
{{- if and (not (include "trainer.storageUri" .)) (not .Values.clusterSelector) -}}
{{- $uri := include "trainer.runFileUri" . | default "runs" -}}
{{- if not (regexMatch "^(?i)s3a?://" $uri) -}}
{{- fail (printf "run %s would keep its results in %q, which is lost with the pod: set storage.bucket or storage.claim, or storage.uri in the run file to s3://bucket/prefix" .Release.Name $uri) -}}
{{- end -}}
{{- end -}}
{{- if include "trainer.ownCluster" . -}}
{{- include "trainer.checkScaling" (dict "root" . "run" $run) -}}
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

{{- /* What one worker of a train run, or of a trial, takes; as the run file's Scaling.worker_resources and
       RunConfig.trial_resources count it. use_gpu: auto asks for nothing: the driver chooses by what the pools have. */ -}}
{{- define "trainer.oneWorker" -}}
{{- $scaling := .run.scaling | default dict -}}
{{- $each := $scaling.resources_per_worker | default dict -}}
{{- if and (eq .task "tune") (le (int ($scaling.num_workers | default 1)) 1) -}}
{{- $each = (.run.tune | default dict).resources_per_trial | default $each -}}
{{- end -}}
{{- $one := dict "CPU" 1.0 -}}
{{- if eq (toString $scaling.use_gpu) "true" -}}
{{- $_ := set $one "GPU" 1.0 -}}
{{- end -}}
{{- range $name, $amount := $each -}}
{{- $_ := set $one $name (float64 $amount) -}}
{{- end -}}
{{- $one | toJson -}}
{{- end -}}

{{- /* All workers of a train run, or of one trial, must fit into the pools at once: in sum, and pod by pod. The head
       has no CPU; the driver of a trial of several workers takes a trial_driver there. */ -}}
{{- define "trainer.checkScaling" -}}
{{- $ := .root -}}
{{- $name := $.Release.Name -}}
{{- $workers := int ((.run.scaling | default dict).num_workers | default 1) -}}
{{- $one := include "trainer.oneWorker" (dict "run" .run "task" $.Values.run.task) | fromJson -}}
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
{{- $trials := int ((.run.tune | default dict).max_concurrent_trials | default 1) -}}
{{- if and (eq $.Values.run.task "tune") (gt $workers 1) (gt $trials (int $.Values.head.trialDrivers)) -}}
{{- fail (printf "run %s asks for %d trials at once but head.trialDrivers is %d" $name $trials (int $.Values.head.trialDrivers)) -}}
{{- end -}}
{{- end -}}
