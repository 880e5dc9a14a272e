{{- define "redoubt.labels" -}}
app.kubernetes.io/name: redoubt
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "redoubt.checks" -}}
{{- if ne .Release.Namespace "redoubt-system" }}
{{- fail "install into the namespace redoubt-system (helm install --namespace redoubt-system): the admission policies know the operator by that name" }}
{{- end }}
{{- include "redoubt.definitions" . }}
{{- end }}

{{- /* What Pod Security "restricted" asks of a pod, and of a container. */ -}}
{{- define "redoubt.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "redoubt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Helm installs definitions once and never upgrades them, so an upgrade over older ones is refused. Without a cluster
       there is nothing to compare. */ -}}
{{- define "redoubt.definitions" -}}
{{- if .Release.IsUpgrade }}
{{- range $path, $_ := .Files.Glob "files/definitions/*.yaml" }}
{{- $wanted := $.Files.Get $path | fromYaml }}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $wanted.metadata.name }}
{{- if and $found (ne (toJson (first $wanted.spec.versions).schema) (toJson (first $found.spec.versions).schema)) }}
{{- fail (printf "the definition %s is not that of this chart, and Helm does not upgrade it: first run helm show crds CHART | kubectl apply --server-side --force-conflicts -f -" $wanted.metadata.name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
