{{- define "sidewall.operator.labels" -}}
app.kubernetes.io/name: sidewall-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: sidewall
{{- end -}}

{{/* Who the operator is for the API server. */}}
{{- define "sidewall.operator.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:sidewall-operator
{{- end -}}

{{/* Whether pods are injected: not while the product is taken away, when running pods keep what they have. */}}
{{- define "sidewall.injects" -}}
{{- if and .Values.operator.enabled (not .Values.uninstall.enabled) -}}true{{- end -}}
{{- end -}}

{{/* Namespaces that nothing is injected in and nothing is written in for a proxy, as a JSON list; the release's own among them. */}}
{{- define "sidewall.excluded" -}}
{{- append .Values.operator.injection.excludedNamespaces .Release.Namespace | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* An image, from {root, image}. */}}
{{- define "sidewall.imageOf" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "sidewall.operator.configuration" -}}
{{- $operator := .Values.operator -}}
{{- $identity := $operator.injection.identity | default (ternary "uid" "cgroup" (eq .Values.agent.identity "Uid")) -}}
injection:
  namespaceSelector: {{ $operator.injection.namespaceSelector | toJson }}
  excludedNamespaces: {{ include "sidewall.excluded" . }}
  proxy:
    image: {{ include "sidewall.imageOf" (dict "root" . "image" .Values.proxy.image) | quote }}
    imagePullPolicy: {{ .Values.proxy.image.pullPolicy }}
    command: {{ .Values.proxy.command | toJson }}
    uid: {{ int .Values.proxy.uid }}
    ports: {probe: {{ int .Values.proxy.ports.probe }}, admin: {{ int .Values.proxy.ports.admin }}}
    resources: {requests: {{ include "sidewall.quantities" .Values.proxy.resources.requests }}, limits: {{ include "sidewall.quantities" .Values.proxy.resources.limits }}}
  uidRange: {{ $operator.injection.uidRange | quote }}
  identity: {{ $identity }}
  dropCapabilities: {{ $operator.injection.dropCapabilities | toJson }}
webhook:
  address: "[::]:9443"
  service: sidewall-operator
  {{- if eq $operator.certificates.source "CertManager" }}
  certificates: {source: Files, directory: /etc/sidewall/webhook}
  {{- else }}
  certificates: {source: SelfManaged}
  {{- end }}
  mutating: sidewall-inject
  validating: sidewall-validate
listen:
  health: "[::]:9561"
  metrics: {{ if $operator.metrics }}"[::]:9562"{{ else }}null{{ end }}
leader: {lease: sidewall-operator}
secrets: {{ $operator.secrets | toJson }}
log: {{ $operator.log | quote }}
{{- end -}}

{{/* Quantities as text: a number in the values is one too. */}}
{{- define "sidewall.quantities" -}}
{{- $all := dict -}}
{{- range $name, $quantity := . -}}{{- $_ := set $all $name (toString $quantity) -}}{{- end -}}
{{- $all | toJson -}}
{{- end -}}

{{/* A label selector as CEL over the labels of namespaceObject. */}}
{{- define "sidewall.namespaceSelected" -}}
{{- $terms := list -}}
{{- range $key, $value := .matchLabels -}}
{{- $terms = append $terms (printf "namespaceObject.metadata.?labels[?'%s'] == optional.of('%s')" $key $value) -}}
{{- end -}}
{{- range .matchExpressions -}}
{{- $label := printf "namespaceObject.metadata.?labels[?'%s']" .key -}}
{{- $values := list -}}
{{- range .values -}}{{- $values = append $values (printf "'%s'" .) -}}{{- end -}}
{{- $among := printf "(%s.hasValue() && %s.value() in [%s])" $label $label ($values | join ", ") -}}
{{- if eq .operator "In" -}}
{{- $terms = append $terms $among -}}
{{- else if eq .operator "NotIn" -}}
{{- $terms = append $terms (printf "!%s" $among) -}}
{{- else if eq .operator "Exists" -}}
{{- $terms = append $terms (printf "%s.hasValue()" $label) -}}
{{- else -}}
{{- $terms = append $terms (printf "!%s.hasValue()" $label) -}}
{{- end -}}
{{- end -}}
{{- $terms | join " && " | default "true" -}}
{{- end -}}
