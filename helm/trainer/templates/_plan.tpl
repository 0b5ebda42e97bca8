{{- /* What the chart needs of the run file, as JSON: run.plan, as the launcher read the file. Without the launcher the
       chart reads it itself. Helm reads YAML 1.1 and the driver YAML 1.2: what differs is refused. */ -}}
{{- define "trainer.plan" -}}
{{- if .Values.run.plan -}}
{{- .Values.run.plan | toJson -}}
{{- else if .Values.run.file -}}
{{- $run := fromYaml .Values.run.file -}}
{{- if hasKey $run "Error" -}}
{{- fail (printf "run.file is not valid YAML to Helm, which reads YAML 1.1: %s; trainer render and trainer submit read YAML 1.2" $run.Error) -}}
{{- end -}}
{{- include "trainer.checkRunFile" (dict "run" $run "file" .Values.run.file) -}}
{{- $scaling := $run.scaling | default dict -}}
{{- $workers := $scaling.num_workers | default 1 -}}
{{- $trials := dig "max_concurrent_trials" 1 ($run.tune | default dict) | default 1 -}}
{{- $one := include "trainer.oneWorker" (dict "run" $run "task" .Values.run.task) | fromJson -}}
{{- include "trainer.checkYaml" (dict "file" .Values.run.file "useGpu" $scaling.use_gpu "numbers" (concat (list $workers $trials) (values $one))) -}}
{{- dict "workers" (int $workers) "trials" (int $trials) "resources" $one "storageUri" (dig "uri" "" ($run.storage | default dict)) | toJson -}}
{{- else -}}
{{- dict "storageUri" "" | toJson -}}
{{- end -}}
{{- end -}}

{{- /* What Helm reads of a run file otherwise than the driver, or not at all. (dict "run" "file") */ -}}
{{- define "trainer.checkRunFile" -}}
{{- $run := .run -}}
{{- range $block, $keys := dict "scaling" (list "resources_per_worker") "tune" (list "resources_per_trial") "storage" list "trainer" list -}}
{{- $value := get $run $block | default dict -}}
{{- if not (kindIs "map" $value) -}}
{{- fail (printf "run.file has a %s that is no mapping: %s" $block (toJson $value)) -}}
{{- end -}}
{{- range $key := $keys -}}
{{- if not (kindIs "map" (get $value $key | default dict)) -}}
{{- fail (printf "run.file has a %s.%s that is no mapping: %s" $block $key (get $value $key | toJson)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $way := "trainer render and trainer submit read the file as the driver does" -}}
{{- if not (kindIs "string" (dig "uri" "" ($run.storage | default dict) | default "")) -}}
{{- fail (printf "run.file has a storage.uri that is no string to Helm: %v; %s" $run.storage.uri $way) -}}
{{- end -}}
{{- if regexMatch "(^|[\\s{,])[\"']?<<[\"']?\\s*:" .file -}}
{{- fail (printf "run.file has a merge key (<<), with which Helm replaces keys that the driver keeps: write them out; %s" $way) -}}
{{- end -}}
{{- $fit := get $run "fit" | default dict -}}
{{- $inner := kindIs "map" $fit | ternary $fit dict | dig "trainer" dict -}}
{{- $scaling := $run.scaling | default dict -}}
{{- range $trainer := list ($run.trainer | default dict) (kindIs "map" $inner | ternary $inner dict) -}}
{{- range $key, $none := dict "devices" (list "auto" "1" "-1") "num_nodes" (list "1") "accelerator" (list "auto" "cpu") -}}
{{- $made := ternary "use_gpu" "num_workers" (eq $key "accelerator") -}}
{{- $value := get $trainer $key | default (first $none) -}}
{{- if not (or (hasKey $scaling $made) (has (toString $value) $none)) -}}
{{- fail (printf "run.file has trainer.%s: %s, from which the driver makes scaling.%s: set that too, with which Helm counts; %s" $key (toJson $value) $made $way) -}}
{{- end -}}
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

{{- /* YAML 1.1 has 8 for 010 and true for yes; YAML 1.2 has 10 and a string. (dict "file" text "useGpu" its value
       "numbers" those that the chart counts with) */ -}}
{{- define "trainer.checkYaml" -}}
{{- $way := "trainer render and trainer submit read YAML 1.2, as the driver does" -}}
{{- if and (kindIs "bool" .useGpu) (not (regexMatch "use_gpu[\"']?\\s*:\\s*(&\\S+\\s+)?(true|True|TRUE|false|False|FALSE)\\b" .file)) -}}
{{- fail (printf "run.file has a use_gpu that is a string in YAML 1.2 and %v to Helm: write true or false; %s" .useGpu $way) -}}
{{- end -}}
{{- range $literal := regexFindAll "\\b0[0-7_]*[1-7][0-7_]*[0-7]\\b" .file -1 -}}
{{- $octal := dig "value" "" (fromYaml (printf "value: %s" $literal)) -}}
{{- range $number := $.numbers -}}
{{- if eq (float64 $number) (float64 $octal) -}}
{{- fail (printf "run.file has %s, which is %v to Helm and another number in YAML 1.2: write it without the leading 0; %s" $literal $octal $way) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
