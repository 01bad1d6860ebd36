{{/* What a preset says, with the places that the values name in its stead. */}}
{{- define "sidewall.preset" -}}
{{- $preset := .Files.Get (printf "presets/%s.yaml" .Values.preset) -}}
{{- if not $preset -}}
{{- fail (printf "preset: there is no preset %q" .Values.preset) -}}
{{- end -}}
{{- $all := $preset | fromYaml -}}
{{- range $key, $path := .Values.paths -}}
{{- if $path -}}{{- $_ := set $all $key $path -}}{{- end -}}
{{- end -}}
{{- $all | toYaml -}}
{{- end -}}

{{- define "sidewall.labels" -}}
app.kubernetes.io/name: sidewall
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sidewall
{{- end -}}

{{/* The agent's own; `sidewall flows` finds its pods by the first. */}}
{{- define "sidewall.agentLabels" -}}
app.kubernetes.io/name: sidewall-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/part-of: sidewall
{{- end -}}

{{- define "sidewall.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Who the agent is for the API server. */}}
{{- define "sidewall.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:sidewall-agent
{{- end -}}

{{/* What the agent may do beside what any process may; each of them is needed (docs/install-agent.md says for what). */}}
{{- define "sidewall.capabilities" -}}
- NET_ADMIN
- SYS_ADMIN
- SYS_PTRACE
{{- end -}}

{{- define "sidewall.allowPrivilegeEscalation" -}}
{{- (include "sidewall.preset" . | fromYaml).allowPrivilegeEscalation | default false -}}
{{- end -}}

{{/* The agent's configuration file. */}}
{{- define "sidewall.configuration" -}}
{{- $preset := include "sidewall.preset" . | fromYaml -}}
{{- $agent := .Values.agent -}}
paths:
  cri: {{ $preset.criSocket }}
  nri: {{ if .Values.nri }}{{ $preset.nriSocket }}{{ else }}null{{ end }}
cni:
  install: {{ $agent.cni.install }}
  configurationDirectory: {{ $preset.cniConfiguration }}
  programDirectory: {{ $preset.cniPrograms }}
  daemonSet: {{ .Release.Namespace }}/sidewall-agent
  timeoutMilliseconds: {{ int $agent.cni.timeoutMilliseconds }}
identity: {{ $agent.identity }}
runtimeHandlers: {{ $agent.runtimeHandlers | toJson }}
exemptNamespaces: {{ $agent.exemptNamespaces | toJson }}
network:
  pods: {{ $agent.network.pods | toJson }}
  services: {{ $agent.network.services | toJson }}
  dns: {{ $agent.network.dns | toJson }}
policies:
  networkPolicies: {{ $agent.policies.networkPolicies }}
  multiNetworkPolicies: {{ $agent.policies.multiNetworkPolicies | quote }}
listen:
  health: {{ $agent.listen.health | quote }}
  metrics: {{ if $agent.listen.metrics }}{{ $agent.listen.metrics | quote }}{{ else }}null{{ end }}
  flows: {{ if $agent.listen.flows }}{{ $agent.listen.flows | quote }}{{ else }}null{{ end }}
timing:
  checkSeconds: {{ int $agent.timing.checkSeconds }}
  listSeconds: {{ int $agent.timing.listSeconds }}
  pollMilliseconds: {{ int $agent.timing.pollMilliseconds }}
{{- if .Values.startupTaint.remove }}
startupTaint: sidewall.dev/agent-not-ready
{{- end }}
{{- end -}}

{{/* What is mounted, and from where; at the same place inside. */}}
{{- define "sidewall.mounts" -}}
{{- $preset := include "sidewall.preset" . | fromYaml -}}
- {name: configuration, mountPath: /etc/sidewall, readOnly: true}
- {name: cgroups, mountPath: /sys/fs/cgroup, readOnly: true}
# What the runtime mounts and unmounts in these has to follow, or new pods' namespaces would not be seen, and old ones never go.
- {name: namespaces, mountPath: /var/run/netns, readOnly: true, mountPropagation: HostToContainer}
- {name: runtime, mountPath: {{ dir $preset.criSocket }}, readOnly: true, mountPropagation: HostToContainer}
{{- if .Values.nri }}
- {name: nri, mountPath: {{ dir $preset.nriSocket }}, readOnly: true}
{{- end }}
{{- if .Values.agent.cni.install }}
- {name: cni-configuration, mountPath: {{ $preset.cniConfiguration }}}
- {name: cni-programs, mountPath: {{ $preset.cniPrograms }}}
{{- end }}
- {name: run, mountPath: /run/sidewall}
- {name: state, mountPath: /var/lib/sidewall}
{{- end -}}

{{- define "sidewall.volumes" -}}
{{- $preset := include "sidewall.preset" . | fromYaml -}}
- {name: configuration, configMap: {name: sidewall-agent}}
- {name: cgroups, hostPath: {path: /sys/fs/cgroup, type: Directory}}
- {name: namespaces, hostPath: {path: /var/run/netns, type: DirectoryOrCreate}}
- {name: runtime, hostPath: {path: {{ dir $preset.criSocket }}, type: Directory}}
{{- if .Values.nri }}
- {name: nri, hostPath: {path: {{ dir $preset.nriSocket }}, type: DirectoryOrCreate}}
{{- end }}
{{- if .Values.agent.cni.install }}
- {name: cni-configuration, hostPath: {path: {{ $preset.cniConfiguration }}, type: DirectoryOrCreate}}
- {name: cni-programs, hostPath: {path: {{ $preset.cniPrograms }}, type: DirectoryOrCreate}}
{{- end }}
- {name: run, hostPath: {path: /run/sidewall, type: DirectoryOrCreate}}
- {name: state, hostPath: {path: /var/lib/sidewall, type: DirectoryOrCreate}}
{{- end -}}
