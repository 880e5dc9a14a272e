{{- define "redoubt.labels" -}}
app.kubernetes.io/name: redoubt
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "redoubt.checks" -}}
{{- if ne .Release.Namespace "redoubt-system" }}
{{- fail "install into the namespace redoubt-system (helm install --namespace redoubt-system): the admission policies know the operator by that name" }}
{{- end }}
{{- end }}
