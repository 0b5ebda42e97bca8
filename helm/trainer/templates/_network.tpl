{{- /* NetworkPolicy peers, as JSON: every address but those of the clouds' metadata services, which give a node's keys. */ -}}
{{- define "trainer.anywhere" -}}
{{- list (dict "ipBlock" (dict "cidr" "0.0.0.0/0")) (dict "ipBlock" (dict "cidr" "::/0")) | toJson -}}
{{- end -}}

{{- /* Peers as YAML, whose blocks except the metadata services; without peers, every other address.
       (dict "where" their key "peers" a list) */ -}}
{{- define "trainer.peers" -}}
{{- $peers := list -}}
{{- range .peers | default (include "trainer.anywhere" . | fromJsonArray) -}}
{{- $peer := deepCopy . -}}
{{- with $peer.ipBlock -}}
{{- with include "trainer.metadataIn" (dict "where" $.where "cidr" .cidr) | fromJsonArray -}}
{{- $_ := set $peer.ipBlock "except" (concat ($peer.ipBlock.except | default list) . | uniq) -}}
{{- end -}}
{{- end -}}
{{- $peers = append $peers $peer -}}
{{- end -}}
{{- toYaml $peers -}}
{{- end -}}

{{- /* The addresses of metadata services inside a CIDR, as a JSON list. One that is such an address is refused.
       (dict "where" key "cidr" text) */ -}}
{{- define "trainer.metadataIn" -}}
{{- $own := list -}}
{{- $bits := splitList "/" .cidr | last | int -}}
{{- if contains ":" .cidr -}}
{{- $own = include "trainer.metadataIn6" . | fromJsonArray -}}
{{- else -}}
{{- $size := include "trainer.power" (sub 32 $bits) | int64 -}}
{{- range $network := list "169.254.0.0/16" "169.254.169.254/32" "100.100.100.200/32" "168.63.129.16/32" -}}
{{- $most := splitList "/" $network | last | int -}}
{{- if and (le $bits $most) (eq (div (include "trainer.number" $.cidr | int64) $size) (div (include "trainer.number" $network | int64) $size)) (not (has "169.254.0.0/16" $own | and (hasPrefix "169." $network))) -}}
{{- if lt $bits $most -}}
{{- $own = append $own $network -}}
{{- else if eq $most 32 -}}
{{- include "trainer.refuseMetadata" $ -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $own | toJson -}}
{{- end -}}

{{- /* The same of IPv6: AWS's, Oracle's and Google's, by their first 32 bits. */ -}}
{{- define "trainer.metadataIn6" -}}
{{- $bits := splitList "/" .cidr | last | int -}}
{{- $groups := splitList "/" .cidr | first | splitList ":" -}}
{{- $high := printf "0x%s" (first $groups | default "0") | int64 -}}
{{- $low := printf "0x%s" (index $groups 1 | default "0") | int64 -}}
{{- $size := include "trainer.power" (max 0 (sub 32 $bits)) | int64 -}}
{{- $own := list -}}
{{- range list (list 0xfd00 0xec2 "fd00:ec2::254" ":0*254$") (list 0xfd00 0xc1 "fd00:c1::a9fe:a9fe" ":a9fe:a9fe$") (list 0xfd20 0xce "fd20:ce::254" ":0*254$") -}}
{{- if eq (div (add (mul $high 65536) $low) $size) (div (add (mul (index . 0) 65536) (index . 1)) $size) -}}
{{- if le $bits 32 -}}
{{- $own = append $own (printf "%s/128" (index . 2)) -}}
{{- else if or (lt $bits 128) (regexMatch (index . 3) (splitList "/" $.cidr | first | lower)) -}}
{{- include "trainer.refuseMetadata" $ -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $own | toJson -}}
{{- end -}}

{{- define "trainer.refuseMetadata" -}}
{{- fail (printf "%s has %s, where the cloud's metadata service gives the node's keys to whoever asks; name other addresses" .where .cidr) -}}
{{- end -}}

{{- define "trainer.power" -}}
{{- $size := 1 -}}
{{- range until (int .) -}}
{{- $size = mul $size 2 -}}
{{- end -}}
{{- $size -}}
{{- end -}}

{{- /* The address of an IPv4 CIDR as a number. */ -}}
{{- define "trainer.number" -}}
{{- $number := 0 -}}
{{- range splitList "/" . | first | splitList "." -}}
{{- $number = add (mul $number 256) (int .) -}}
{{- end -}}
{{- $number -}}
{{- end -}}
