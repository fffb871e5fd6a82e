{{/*
Prefix of every resource name: the release's name, with the chart's name appended unless it is
already in it. Cut to 40 so that the longest controller name still fits a DNS label.
*/}}
{{- define "mainstay.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/*
The next three take (dict "root" $ "name" "<controller>").
*/}}

{{- define "mainstay.controllerName" -}}
{{- printf "%s-%s" (include "mainstay.fullname" .root) .name -}}
{{- end -}}

{{- define "mainstay.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "mainstay.labels" -}}
{{ include "mainstay.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mainstay
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes the root. A digest is used instead of a tag: it always names the same image. */}}
{{- define "mainstay.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is not set. No public image of Mainstay exists yet: build one (make image, or docker build .), push it to a registry that your nodes can reach, and set it with --set image.repository=registry.example.com/mainstay. See docs/operations.md, Install." -}}
{{- end -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
"true" when an optional kind of the Prometheus Operator is to be rendered.
Takes (dict "root" $ "key" "<values key>"), whose value has `enabled` and `policy`.
*/}}
{{- define "mainstay.renderMonitoring" -}}
{{- $values := index .root.Values .key -}}
{{- $served := .root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
{{- if $values.enabled -}}
{{- if and (not $served) (eq $values.policy "failIfMissing") -}}
{{- fail (printf "%s.enabled is true, but this cluster does not serve monitoring.coreos.com/v1. Install the Prometheus Operator's CRDs first, or set %s.policy to skipIfMissing." .key .key) -}}
{{- end -}}
{{- if or $served (eq $values.policy "alwaysRender") -}}
true
{{- end -}}
{{- end -}}
{{- end -}}
