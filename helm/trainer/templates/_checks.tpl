{{- /* What a schema can't say. Each message has the value and what is allowed. */ -}}
{{- define "trainer.checks" -}}
{{- include "trainer.checkName" . -}}
{{- include "trainer.checkKind" . -}}
{{- include "trainer.checkLifetime" . -}}
{{- include "trainer.checkStorage" . -}}
{{- include "trainer.checkNetwork" . -}}
{{- if include "trainer.ownCluster" . -}}
{{- include "trainer.checkGroups" . -}}
{{- end -}}
{{- if has .Values.kind (list "RayJob" "RayCronJob") -}}
{{- include "trainer.checkRun" . -}}
{{- end -}}
{{- include "trainer.checkUi" . -}}
{{- end -}}

{{- /* KubeRay accepts 47 for a RayJob and 53 for a RayCluster, but names the token's Secret by the last 50 characters of
       <run>-<5>. A RayCronJob's RayJobs add 6 characters in 1.6, and 9 in 1.7. */ -}}
{{- define "trainer.checkName" -}}
{{- $most := ternary 35 44 (eq .Values.kind "RayCronJob") -}}
{{- if gt (len .Release.Name) $most -}}
{{- fail (printf "the name %s has %d characters; at most %d are allowed, since KubeRay adds some" .Release.Name (len .Release.Name) $most) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the name %s is not allowed: use a-z, 0-9 and '-'; it begins with a letter, and ends with a letter or digit" .Release.Name) -}}
{{- end -}}
{{- end -}}

{{- /* The pages of `trainer ui`. A run's release ends with the run. */ -}}
{{- define "trainer.checkUi" -}}
{{- $ui := eq .Values.kind "UI" -}}
{{- if and .Values.ui.enabled (has .Values.kind (list "RayJob" "RayCronJob")) -}}
{{- fail (printf "ui.enabled is not allowed with kind %s, whose release is one run; install it with kind UI, or with a RayCluster" .Values.kind) -}}
{{- end -}}
{{- if and $ui (not .Values.ui.enabled) -}}
{{- fail "kind UI is nothing but the pages of runs: it needs ui.enabled=true" -}}
{{- end -}}
{{- range $key := list "podMonitor" "autoscaling" -}}
{{- if and $ui (get $.Values $key).enabled -}}
{{- fail (printf "%s.enabled is not allowed with kind UI, which has no Ray pods" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $ui .Values.run.file -}}
{{- fail "run.file is not allowed with kind UI, which has no run" -}}
{{- end -}}
{{- if .Values.ui.enabled -}}
{{- if not (include "trainer.storageUri" .) -}}
{{- fail "ui.enabled needs the storage whose runs it shows: storage.bucket, or storage.claim" -}}
{{- end -}}
{{- if and (include "trainer.storageSecret" .) (not .Values.ui.existingSecret) -}}
{{- fail (printf "ui.enabled needs ui.existingSecret, a Secret with keys that may only list and get: those of %s may write" (include "trainer.storageSecret" .)) -}}
{{- end -}}
{{- if and .Values.ui.existingSecret (eq .Values.ui.existingSecret (include "trainer.storageSecret" .)) -}}
{{- fail (printf "ui.existingSecret is %s, whose keys may write; name a Secret with keys that may only list and get" .Values.ui.existingSecret) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Values that one kind of object allows and another does not. */ -}}
{{- define "trainer.checkKind" -}}
{{- $kind := .Values.kind -}}
{{- if and (eq $kind "RayCluster") .Values.run.file -}}
{{- fail (printf "run.file is not allowed with kind RayCluster: install %s without it, then each run with clusterSelector=%s" .Release.Name .Release.Name) -}}
{{- end -}}
{{- if and (eq $kind "RayCluster") .Values.run.env -}}
{{- fail (printf "run.env (--env) is not allowed with kind RayCluster, which has no run: set head.env and poolDefaults.env, or give --env to each run with clusterSelector=%s" .Release.Name) -}}
{{- end -}}
{{- range $name, $value := .Values.run.env -}}
{{- include "trainer.checkVariable" (dict "where" "run.env (--env)" "name" $name "value" $value) -}}
{{- end -}}
{{- if and .Values.clusterSelector (ne $kind "RayJob") -}}
{{- fail (printf "clusterSelector is only allowed with kind RayJob, not with %s" $kind) -}}
{{- end -}}
{{- if and (eq $kind "RayCronJob") (not .Values.cron.schedule) -}}
{{- fail "kind RayCronJob needs cron.schedule, for example \"0 3 * * *\" (UTC)" -}}
{{- end -}}
{{- if and (ne $kind "RayCronJob") .Values.cron.schedule -}}
{{- fail (printf "cron.schedule is only allowed with kind RayCronJob, not with %s" $kind) -}}
{{- end -}}
{{- if and .Values.cron.schedule (not (regexMatch (include "trainer.cronPattern" .) .Values.cron.schedule)) -}}
{{- fail (printf "cron.schedule is %q; allowed are five fields, minute (0-59) hour (0-23) day (1-31) month (1-12, jan) weekday (0-6, sun); @daily and the like; or @every 6h" .Values.cron.schedule) -}}
{{- end -}}
{{- range regexFindAll "[0-9]+-[0-9]+" .Values.cron.schedule -1 -}}
{{- $ends := splitList "-" . -}}
{{- if gt (first $ends | int) (last $ends | int) -}}
{{- fail (printf "cron.schedule has the range %s, whose end %s is less than its start %s" . (last $ends) (first $ends)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What cron.ParseStandard accepts, with which KubeRay parses it, without time zones, which KubeRay does not support. */ -}}
{{- define "trainer.cronPattern" -}}
{{- $months := "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec" -}}
{{- $all := list -}}
{{- range list "[0-5]?[0-9]" "([01]?[0-9]|2[0-3])" "(0?[1-9]|[12][0-9]|3[01])" (printf "(0?[1-9]|1[0-2]|%s)" $months) "([0-6]|sun|mon|tue|wed|thu|fri|sat)" -}}
{{- $one := printf "(\\*|\\?|%s(-%s)?)(/[1-9][0-9]*)?" . . -}}
{{- $all = append $all (printf "%s(,%s)*" $one $one) -}}
{{- end -}}
(?i)^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|@every ([0-9]+[hms])+|{{ join " +" $all }})$
{{- end -}}

{{- define "trainer.checkLifetime" -}}
{{- $life := .Values.lifetime -}}
{{- if eq $life.submissionMode "SidecarMode" -}}
{{- fail "lifetime.submissionMode SidecarMode is not offered: its container can't pass the restricted profile, and the run ends if the head is lost; use K8sJobMode or HTTPMode" -}}
{{- end -}}
{{- if eq $life.submissionMode "InteractiveMode" -}}
{{- fail "lifetime.submissionMode InteractiveMode is not offered: KubeRay waits for a user to submit the job, and does not replace a lost head; use K8sJobMode or HTTPMode" -}}
{{- end -}}
{{- if and $life.suspend (eq .Values.kind "RayCronJob") -}}
{{- fail "lifetime.suspend is not allowed with kind RayCronJob; use cron.suspend" -}}
{{- end -}}
{{- if and $life.suspend .Values.clusterSelector -}}
{{- fail "lifetime.suspend and clusterSelector exclude each other: KubeRay suspends a run by deleting its own cluster" -}}
{{- end -}}
{{- if and $life.suspend (not $life.stoppable) -}}
{{- fail "lifetime.suspend needs lifetime.stoppable: without it KubeRay does not suspend the run" -}}
{{- end -}}
{{- with .Values.queue.name -}}
{{- if eq $.Values.kind "RayCronJob" -}}
{{- fail "queue.name has no effect on a RayCronJob: KubeRay does not pass its labels on to the runs" -}}
{{- end -}}
{{- if or $.Values.clusterSelector (not $life.stoppable) -}}
{{- fail "queue.name needs a run that can be suspended: lifetime.stoppable, and no clusterSelector" -}}
{{- end -}}
{{- if $.Values.autoscaling.enabled -}}
{{- fail "queue.name and autoscaling.enabled exclude each other: Kueue admits pools of a fixed size" -}}
{{- end -}}
{{- if gt (len $.Values.pools) 6 -}}
{{- fail (printf "queue.name allows at most 6 pools, not %d: Kueue accepts 8 pod sets, and two are the head and the submitter" (len $.Values.pools)) -}}
{{- end -}}
{{- end -}}
{{- $first := $life.firstStepDeadlineSeconds | default 0 | int -}}
{{- $total := $life.totalDeadlineSeconds | default $first | int -}}
{{- if gt $first $total -}}
{{- fail (printf "lifetime.firstStepDeadlineSeconds (%d) is greater than lifetime.totalDeadlineSeconds (%d)" $first $total) -}}
{{- end -}}
{{- end -}}

{{- define "trainer.checkStorage" -}}
{{- $storage := .Values.storage -}}
{{- if and $storage.bucket (include "trainer.claim" .) -}}
{{- fail (printf "storage.bucket %s and storage.claim exclude each other" $storage.bucket) -}}
{{- end -}}
{{- if and $storage.keys.accessKeyId $storage.existingSecret -}}
{{- fail (printf "storage.keys and storage.existingSecret %s exclude each other" $storage.existingSecret) -}}
{{- end -}}
{{- if ne (empty $storage.keys.accessKeyId) (empty $storage.keys.secretAccessKey) -}}
{{- fail "storage.keys needs both accessKeyId and secretAccessKey" -}}
{{- end -}}
{{- if and $storage.claim.existing $storage.claim.size -}}
{{- fail (printf "storage.claim.existing %s and storage.claim.size %s exclude each other" $storage.claim.existing $storage.claim.size) -}}
{{- end -}}
{{- if and .Values.serviceAccount.name .Values.serviceAccount.annotations -}}
{{- fail (printf "serviceAccount.name %s and serviceAccount.annotations exclude each other: annotate that ServiceAccount" .Values.serviceAccount.name) -}}
{{- end -}}
{{- if and (include "trainer.claim" .) .Values.clusterSelector -}}
{{- fail (printf "storage.claim is not allowed with clusterSelector: the cluster mounts the claim; set it in the values of %s" .Values.clusterSelector) -}}
{{- end -}}
{{- end -}}

{{- define "trainer.checkNetwork" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.enabled (not $policy.anywhere) (not $policy.storage.to) (or $policy.storage.port (not (include "trainer.claim" .))) -}}
{{- fail "networkPolicy.storage.to is empty: name the peers of the storage there, such as an ipBlock; or, for a storage whose addresses change, such as AWS's, set networkPolicy.anywhere to true: every address at the storage's port but the cloud's metadata services" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (and (include "trainer.ownCluster" .) (ne .Values.kind "RayCronJob"))) -}}
{{- fail "ingress.enabled needs a head in this release: kind RayJob or RayCluster, without clusterSelector" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled needs ingress.host" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.tlsSecret) -}}
{{- fail "ingress.enabled needs ingress.tlsSecret: without TLS everyone on the way reads the token that Ray's dashboard asks for, and with it runs code in the cluster" -}}
{{- end -}}
{{- if and .Values.ingress.enabled $policy.enabled (not $policy.ingressController) -}}
{{- fail "ingress.enabled needs networkPolicy.ingressController: without it the NetworkPolicy blocks the ingress controller" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled $policy.enabled (not $policy.prometheus) -}}
{{- fail "podMonitor.enabled needs networkPolicy.prometheus: without it the NetworkPolicy blocks Prometheus" -}}
{{- end -}}
{{- range $key, $_ := .Values.podLabels -}}
{{- if regexMatch "^(trainer|([-a-z0-9.]+\\.)?(ray|kubernetes|k8s|x-k8s)\\.io)/|^(job-name|controller-uid|pod-template-hash)$" $key -}}
{{- fail (printf "podLabels has %s; labels under trainer/, ray.io/, kubernetes.io/ and k8s.io/, job-name and controller-uid are reserved: NetworkPolicies and Services select pods by them" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
