{{/*
What an admission webhook needs besides its configuration: a Service, the right to keep its certificate, and with
cert-manager the Certificate. Takes (dict "root" $ "name" "<controller>" "resource" "<plural of its configuration>").
The Service, the Secret and the configuration are all named <controllerName>-webhook.
*/}}
{{- define "mainstay.webhook" -}}
{{- $name := printf "%s-webhook" (include "mainstay.controllerName" .) }}
{{- $namespace := .root.Release.Namespace }}
{{- $labels := include "mainstay.labels" . }}
{{- $webhooks := .root.Values.webhooks }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  selector:
    {{- include "mainstay.selectorLabels" . | nindent 4 }}
  ports:
    - name: webhook
      port: 443
      targetPort: webhook
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
rules:
  # Read the webhook's certificate, which all replicas share, and no other Secret.
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: [{{ $name }}]
    verbs: [get, list, watch{{ if eq $webhooks.certificates "own" }}, update{{ end }}]
  {{- if eq $webhooks.certificates "own" }}
  # Create it. RBAC cannot restrict create to a name.
  - apiGroups: [""]
    resources: [secrets]
    verbs: [create]
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "mainstay.controllerName" . }}
    namespace: {{ $namespace }}
{{- if eq $webhooks.certificates "own" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
rules:
  # Write the caBundle of this configuration, and of no other.
  - apiGroups: [admissionregistration.k8s.io]
    resources: [{{ .resource }}]
    resourceNames: [{{ $name }}]
    verbs: [get, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "mainstay.controllerName" . }}
    namespace: {{ $namespace }}
{{- else }}
{{- $_ := required "webhooks.certificates is certManager: webhooks.certManager.issuerRef.name must name an issuer" $webhooks.certManager.issuerRef.name }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  secretName: {{ $name }}
  dnsNames:
    - {{ $name }}.{{ $namespace }}.svc
  issuerRef:
    {{- toYaml $webhooks.certManager.issuerRef | nindent 4 }}
{{- end }}
{{- end -}}

{{/* The flags of a controller with a webhook, as a YAML list. Takes "values", those of the controller, besides. */}}
{{- define "mainstay.webhookFlags" -}}
{{- if .values.webhook.enabled -}}
- {{ printf "--webhook-bind-address=:%d" (int .values.webhook.port) | quote }}
- {{ printf "--webhook-name=%s-webhook" (include "mainstay.controllerName" .) | quote }}
- {{ printf "--webhook-certificates=%s" (eq .root.Values.webhooks.certificates "own" | ternary "own" "secret") | quote }}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* Lets cert-manager write the caBundle. */}}
{{- define "mainstay.webhookAnnotations" -}}
{{- if ne .root.Values.webhooks.certificates "own" -}}
annotations:
  cert-manager.io/inject-ca-from: {{ .root.Release.Namespace }}/{{ include "mainstay.controllerName" . }}-webhook
{{- end }}
{{- end -}}
