{{- /* What a schema can't say. Each line names what was found and what is allowed. */ -}}
{{- define "trainer.checks" -}}
{{- include "trainer.checkName" . -}}
{{- include "trainer.checkKind" . -}}
{{- include "trainer.checkLifetime" . -}}
{{- include "trainer.checkStorage" . -}}
{{- include "trainer.checkNetwork" . -}}
{{- if include "trainer.ownCluster" . -}}
{{- include "trainer.checkGroups" . -}}
{{- end -}}
{{- if ne .Values.kind "RayCluster" -}}
{{- include "trainer.checkRun" . -}}
{{- end -}}
{{- end -}}

{{- /* KubeRay takes 47 for a RayJob and 53 for a RayCluster, but names the token's Secret by the last 50 characters of
       <run>-<5>. A RayCronJob's children add 6; KubeRay 1.7 takes 36. */ -}}
{{- define "trainer.checkName" -}}
{{- $most := ternary 36 44 (eq .Values.kind "RayCronJob") -}}
{{- if gt (len .Release.Name) $most -}}
{{- fail (printf "run %s has a name of %d characters; at most %d fit beside what KubeRay adds" .Release.Name (len .Release.Name) $most) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "run %s: a name has a-z, 0-9 and '-', and begins with a letter" .Release.Name) -}}
{{- end -}}
{{- end -}}

{{- /* What belongs to one kind of object. */ -}}
{{- define "trainer.checkKind" -}}
{{- $kind := .Values.kind -}}
{{- if and (eq $kind "RayCluster") .Values.run.file -}}
{{- fail (printf "kind RayCluster takes no run.file: install %s without it, then runs with clusterSelector=%s" .Release.Name .Release.Name) -}}
{{- end -}}
{{- if and .Values.clusterSelector (ne $kind "RayJob") -}}
{{- fail (printf "clusterSelector goes with kind RayJob, not with %s" $kind) -}}
{{- end -}}
{{- if and (eq $kind "RayCronJob") (not .Values.cron.schedule) -}}
{{- fail "kind RayCronJob needs cron.schedule, for example \"0 3 * * *\" (UTC)" -}}
{{- end -}}
{{- if and (ne $kind "RayCronJob") .Values.cron.schedule -}}
{{- fail (printf "cron.schedule goes with kind RayCronJob, not with %s" $kind) -}}
{{- end -}}
{{- if and .Values.cron.schedule (not (regexMatch (include "trainer.cronPattern" .) .Values.cron.schedule)) -}}
{{- fail (printf "cron.schedule is %q; give minute (0-59) hour (0-23) day (1-31) month (1-12, jan) weekday (0-6, sun), @daily and the like, or @every 6h" .Values.cron.schedule) -}}
{{- end -}}
{{- range regexFindAll "[0-9]+-[0-9]+" .Values.cron.schedule -1 -}}
{{- $ends := splitList "-" . -}}
{{- if gt (first $ends | int) (last $ends | int) -}}
{{- fail (printf "cron.schedule has the range %s, which ends at %s before it begins at %s" . (last $ends) (first $ends)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What cron.ParseStandard takes, by which KubeRay reads it; but for time zones, which it doesn't support. */ -}}
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
{{- fail "lifetime.submissionMode SidecarMode is not offered: its container can't pass the restricted profile, and a lost head is the run's end; take K8sJobMode or HTTPMode" -}}
{{- end -}}
{{- if eq $life.submissionMode "InteractiveMode" -}}
{{- fail "lifetime.submissionMode InteractiveMode is not offered: KubeRay waits for a person to submit the job, and does nothing about a lost head; take K8sJobMode or HTTPMode" -}}
{{- end -}}
{{- if and $life.suspend (eq .Values.kind "RayCronJob") -}}
{{- fail "lifetime.suspend holds up a RayJob or RayCluster; a RayCronJob is held up by cron.suspend" -}}
{{- end -}}
{{- if and $life.suspend .Values.clusterSelector -}}
{{- fail "lifetime.suspend and clusterSelector exclude each other: KubeRay suspends a run by deleting its cluster" -}}
{{- end -}}
{{- if and $life.suspend (not $life.stoppable) -}}
{{- fail "lifetime.suspend needs lifetime.stoppable: KubeRay suspends only what it shuts down at the end" -}}
{{- end -}}
{{- with .Values.queue.name -}}
{{- if eq $.Values.kind "RayCronJob" -}}
{{- fail "queue.name has no effect on a RayCronJob: KubeRay gives its runs no labels" -}}
{{- end -}}
{{- if or $.Values.clusterSelector (not $life.stoppable) -}}
{{- fail "queue.name needs a run that can be suspended: no clusterSelector, and lifetime.stoppable" -}}
{{- end -}}
{{- if $.Values.autoscaling.enabled -}}
{{- fail "queue.name and autoscaling.enabled exclude each other: Kueue admits pools of a fixed size" -}}
{{- end -}}
{{- if gt (len $.Values.pools) 6 -}}
{{- fail (printf "queue.name with %d pools; Kueue takes at most 6 beside the head and the submitter" (len $.Values.pools)) -}}
{{- end -}}
{{- end -}}
{{- $first := $life.firstStepDeadlineSeconds | default 0 | int -}}
{{- $total := $life.totalDeadlineSeconds | default $first | int -}}
{{- if gt $first $total -}}
{{- fail (printf "lifetime.firstStepDeadlineSeconds of %d s is over lifetime.totalDeadlineSeconds of %d s" $first $total) -}}
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
{{- if and (include "trainer.claim" .) .Values.clusterSelector -}}
{{- fail (printf "storage.claim is mounted by the cluster: set it there (%s), not on a run with clusterSelector" .Values.clusterSelector) -}}
{{- end -}}
{{- end -}}

{{- define "trainer.checkNetwork" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and .Values.ingress.enabled (not (and (include "trainer.ownCluster" .) (ne .Values.kind "RayCronJob"))) -}}
{{- fail "ingress.enabled needs a head of this release's own, by kind RayJob or RayCluster without clusterSelector" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled needs ingress.host" -}}
{{- end -}}
{{- if and .Values.ingress.enabled $policy.enabled (not $policy.ingressController) -}}
{{- fail "ingress.enabled needs networkPolicy.ingressController: without it the policy drops what comes from there" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled $policy.enabled (not $policy.prometheus) -}}
{{- fail "podMonitor.enabled needs networkPolicy.prometheus: without it the policy drops what comes from there" -}}
{{- end -}}
{{- range $key, $_ := .Values.podLabels -}}
{{- if regexMatch "^(trainer|ray\\.io|app\\.kubernetes\\.io)/" $key -}}
{{- fail (printf "podLabels has %s; labels under trainer/, ray.io/ and app.kubernetes.io/ are the chart's and KubeRay's" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
