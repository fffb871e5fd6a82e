{{/*
All that a controller needs besides its own rules: Deployment, ServiceAccount, the binding of its
ClusterRole, the Role for its Lease, metrics Service, disruption budget, and on request
ServiceMonitor, PrometheusRule, NetworkPolicy and dashboard.

Takes (dict "root" $ "name" "<controller>" "kind" "<value of its metrics' label controller>"), and of
what only some controllers have: "key", the name of its values where that is another; "flags", a
list of further flags that the chart sets; "webhook", the path at which it serves one; "alerts", the name of a
template with further rules of the PrometheusRule; "egress", the name of one with further egress
rules of the NetworkPolicy. Both get what this one gets.
It is run as `/bin/mainstay <controller>`, its values are controllers.<key>, and the caller
provides the ClusterRole named by "mainstay.controllerName".
*/}}
{{- define "mainstay.controller" -}}
{{- $root := .root }}
{{- $key := .key | default .name }}
{{- $values := index $root.Values.controllers $key }}
{{- $name := include "mainstay.controllerName" . }}
{{- $namespace := $root.Release.Namespace }}
{{- $labels := include "mainstay.labels" . }}
{{- $selector := include "mainstay.selectorLabels" . }}
{{- $flags := concat (list
  (printf "--leader-election-id=%s" $name)
  (printf "--log-level=%s" $values.logLevel)
  (printf "--log-format=%s" $values.logFormat)
  (printf "--max-concurrent-reconciles=%d" (int $values.maxConcurrentReconciles))
  (printf "--max-in-flight-writes=%d" (int $values.maxInFlightWrites))
) (.flags | default list) }}
{{- $metrics := int ($values.metricsPort | default 8080) }}
{{- if $values.metricsPort }}
{{- $flags = append $flags (printf "--metrics-bind-address=:%d" $metrics) }}
{{- $flags = append $flags (printf "--health-probe-bind-address=:%d" (int $values.probesPort)) }}
{{- end }}
{{- range $extra := $values.extraArgs }}
{{- range $flag := $flags }}
{{- if eq (splitList "=" $extra | first) (splitList "=" $flag | first) }}
{{- fail (printf "controllers.%s.extraArgs has %q, which the chart sets itself: use the value of that name instead (the Lease is named by fullnameOverride)." $key $extra) }}
{{- end }}
{{- end }}
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
  {{- with $values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
# Only the controller's own pod asks for the token, so nothing else that uses this account gets it.
automountServiceAccountToken: false
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
    name: {{ $name }}
    namespace: {{ $namespace }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
rules:
  # Create the Lease of the leader election. RBAC cannot restrict create to a name.
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [create]
  # Acquire, renew and release that Lease, and no other.
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    resourceNames: [{{ $name }}]
    verbs: [get, update, patch]
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
    name: {{ $name }}
    namespace: {{ $namespace }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  # Headless: metrics are read from each replica, not from a random one.
  clusterIP: None
  selector:
    {{- $selector | nindent 4 }}
  ports:
    - name: metrics
      port: 8080
      targetPort: metrics
{{- if gt (int $values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  maxUnavailable: 1
  # A replica that does not work must not block the drain of a node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
{{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- $labels | nindent 4 }}
spec:
  replicas: {{ int $values.replicas }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate:
      {{- if $values.hostNetwork }}
      # A node's ports are free for a new pod only when the old one is gone.
      maxUnavailable: 1
      maxSurge: 0
      {{- else }}
      maxUnavailable: 0
      maxSurge: 1
      {{- end }}
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  template:
    metadata:
      labels:
        {{- with $root.Values.commonLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- $selector | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: controller
        {{- if $root.Values.metrics.scrapeAnnotations }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ quote $metrics }}
        prometheus.io/path: /metrics
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: true
      {{- if $values.hostNetwork }}
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      {{- end }}
      # Longer than the 30 s in which a stopping controller finishes writes that are in progress. There is no preStop: it
      # answers admission requests for 10 s after SIGTERM by itself.
      terminationGracePeriodSeconds: 40
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.podSecurityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: controller
          image: {{ include "mainstay.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [/bin/mainstay]
          args:
            - {{ .name }}
            {{- range concat $flags ($values.extraArgs | default list) }}
            - {{ quote . }}
            {{- end }}
          env:
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
            - name: POD_NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
          ports:
            - name: metrics
              containerPort: {{ $metrics }}
            - name: probes
              containerPort: {{ int ($values.probesPort | default 8081) }}
            {{- if .webhook }}
            - name: webhook
              containerPort: {{ int $values.webhook.port }}
            {{- end }}
          livenessProbe:
            httpGet:
              path: /healthz
              port: probes
            initialDelaySeconds: 10
            periodSeconds: 10
            timeoutSeconds: 5
          readinessProbe:
            httpGet:
              path: /readyz
              port: probes
            periodSeconds: 5
            timeoutSeconds: 5
          {{- with $root.Values.securityContext }}
          securityContext:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with $values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      affinity:
        {{- if $values.affinity }}
        {{- toYaml $values.affinity | nindent 8 }}
        {{- else }}
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    {{- $selector | nindent 20 }}
        {{- end }}
      {{- with $values.topologySpreadConstraints }}
      topologySpreadConstraints:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
{{- include "mainstay.serviceMonitor" . }}
{{- include "mainstay.prometheusRule" . }}
{{- include "mainstay.networkPolicy" . }}
{{- include "mainstay.dashboard" . }}
{{- end -}}
