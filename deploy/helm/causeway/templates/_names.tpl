{{/* Names and labels that every object uses. */}}

{{- define "causeway.labels" -}}
app.kubernetes.io/name: causeway-control-plane
app.kubernetes.io/part-of: causeway
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What selects control plane Pods; never changes, for a Deployment's selector cannot. */}}
{{- define "causeway.selector" -}}
app.kubernetes.io/name: causeway-control-plane
app.kubernetes.io/part-of: causeway
{{- end }}

{{/* Called with (list $ "proxy"). */}}
{{- define "causeway.image" -}}
{{- $top := index . 0 -}}
{{- with $top.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
causeway/{{ index . 1 }}:{{ $top.Values.image.tag | default $top.Chart.AppVersion }}
{{- end }}

{{/* The control plane's identity and the certificate of its webhooks hold its namespace's name. */}}
{{- define "causeway.check" -}}
{{- if ne .Release.Namespace "causeway-system" }}
{{- fail (printf "Causeway lives in namespace causeway-system, not in %s: its identity names the namespace. Use: helm install causeway CHART --namespace causeway-system --create-namespace" .Release.Namespace) }}
{{- end }}
{{- end }}
