{{/*
The optional objects of a controller. Each template takes what "mainstay.controller" takes,
and renders a document that starts with its own separator, or nothing.
*/}}

{{- define "mainstay.serviceMonitor" -}}
{{- if eq (include "mainstay.renderMonitoring" (dict "root" .root "key" "serviceMonitor")) "true" }}
{{- $values := .root.Values.serviceMonitor }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "mainstay.controllerName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mainstay.labels" . | nindent 4 }}
    {{- with $values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "mainstay.selectorLabels" . | nindent 6 }}
  endpoints:
    - port: metrics
      path: /metrics
      interval: {{ $values.interval }}
      scrapeTimeout: {{ $values.scrapeTimeout }}
{{- end }}
{{- end -}}

{{- define "mainstay.networkPolicy" -}}
{{- if .root.Values.networkPolicy.enabled }}
{{- $values := .root.Values.networkPolicy }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "mainstay.controllerName" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mainstay.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "mainstay.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    # The kubelet's probes come from the node, whose address differs from cluster to cluster.
    - ports:
        - port: probes
          protocol: TCP
    {{- if .webhook }}
    # The API server asks from addresses that differ from cluster to cluster.
    - ports:
        - port: webhook
          protocol: TCP
      {{- with $values.webhooksFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    - ports:
        - port: metrics
          protocol: TCP
      {{- with $values.metricsFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  egress:
    - ports:
        - port: 53
          protocol: UDP
        - port: 53
          protocol: TCP
    - ports:
        {{- range $values.apiServerPorts }}
        - port: {{ int . }}
          protocol: TCP
        {{- end }}
      {{- with $values.apiServerCIDRs }}
      to:
        {{- range . }}
        - ipBlock:
            cidr: {{ . }}
        {{- end }}
      {{- end }}
    {{- with .egress }}
    {{- include . $ | nindent 4 }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* The peers that the endpoints controller may check: any port, since members say which. Every check begins with TCP. */}}
{{- define "mainstay.endpointsEgress" -}}
- ports:
    - protocol: TCP
  {{- with .root.Values.networkPolicy.checksTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The Services that probes of gates call: any port, since rollouts say which. */}}
{{- define "mainstay.configRolloutEgress" -}}
{{- include "mainstay.endpointsEgress" . }}
{{- end -}}

{{/* The kubelets that policies ask for a second opinion. */}}
{{- define "mainstay.nodeHealthEgress" -}}
- ports:
    {{- range .root.Values.networkPolicy.kubeletPorts }}
    - port: {{ int . }}
      protocol: TCP
    {{- end }}
{{- end -}}

{{/* The dashboard dashboards/<controller>.json as a ConfigMap. */}}
{{- define "mainstay.dashboard" -}}
{{- if .root.Values.dashboards.enabled }}
{{- $file := printf "dashboards/%s.json" .name }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "mainstay.controllerName" . }}-dashboard
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mainstay.labels" . | nindent 4 }}
    {{- with .root.Values.dashboards.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.dashboards.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
data:
  mainstay-{{ .name }}.json: |
    {{- .root.Files.Get $file | trim | nindent 4 }}
{{- end }}
{{- end -}}
