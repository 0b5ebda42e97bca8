{{- /* What a schema can't say. Each line names what was found and what is allowed. */ -}}
{{- define "trainer.checks" -}}
{{- if gt (len .Release.Name) 44 -}}
{{- fail (printf "run %s has a name of %d characters; at most 44 fit beside what KubeRay adds" .Release.Name (len .Release.Name)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "run %s: a name has a-z, 0-9 and '-', and begins with a letter" .Release.Name) -}}
{{- end -}}
{{- if not .Values.run.file -}}
{{- fail "run.file is empty: give the run file with --set-file run.file=run.yaml" -}}
{{- end -}}
{{- if gt (len .Values.run.file) 900000 -}}
{{- fail (printf "run.file has %d bytes; at most 900000 fit into a ConfigMap" (len .Values.run.file)) -}}
{{- end -}}
{{- $run := fromYaml .Values.run.file -}}
{{- if hasKey $run "Error" -}}
{{- fail (printf "run.file is no YAML: %s" $run.Error) -}}
{{- end -}}
{{- if not (include "trainer.storageUri" .) -}}
{{- $uri := dig "storage" "uri" "runs" $run -}}
{{- if not (regexMatch "^s3a?://" $uri) -}}
{{- fail (printf "run %s keeps its results in %q, which ends with the pod: set storage.bucket, or storage.uri in the run file to s3://bucket/prefix" .Release.Name $uri) -}}
{{- end -}}
{{- end -}}
{{- include "trainer.checkScaling" (dict "root" . "scaling" (get $run "scaling" | default dict)) -}}
{{- end -}}

{{- /* All workers of a train run, or of one trial, must fit into the pools at once. */ -}}
{{- define "trainer.checkScaling" -}}
{{- $have := include "trainer.clusterResources" .root | fromJson -}}
{{- $workers := int (dig "num_workers" 1 .scaling) -}}
{{- $each := get .scaling "resources_per_worker" | default dict -}}
{{- $gpus := get $each "GPU" | default (ternary 1 0 (eq (toString (get .scaling "use_gpu")) "true")) -}}
{{- range $name, $one := dict "CPU" (get $each "CPU" | default 1) "GPU" $gpus -}}
{{- $asked := mulf (float64 $one) (float64 $workers) -}}
{{- if gt $asked (float64 (get $have $name)) -}}
{{- fail (printf "run %s asks for %v %ss at once (scaling: %d workers of %v) but its pools give at most %v" $.root.Release.Name $asked $name $workers $one (get $have $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
