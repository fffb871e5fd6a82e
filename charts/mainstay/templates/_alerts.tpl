{{/*
The alerts every controller has, and those of the template that `alerts` names. Takes what
"mainstay.controller" takes. Only the leader works, so only its series change; sums and maxima over
all replicas are therefore always right.
docs/operations.md has a line for each alert: keep the two together.
*/}}
{{- define "mainstay.prometheusRule" -}}
{{- if eq (include "mainstay.renderMonitoring" (dict "root" .root "key" "prometheusRule")) "true" }}
{{- $name := include "mainstay.controllerName" . }}
{{- $kind := printf "controller=%q" .kind }}
{{- $program := printf "name=%q" (printf "mainstay-%s" .name) }}
{{- $own := printf "mainstay_%s" (.name | replace "-" "_") }}
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "mainstay.labels" . | nindent 4 }}
    {{- with .root.Values.prometheusRule.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  groups:
    - name: {{ $name }}
      rules:
        - alert: MainstayNoLeader
          expr: |
            sum(leader_election_master_status{ {{- $program -}} }) < 1
              or absent(leader_election_master_status{ {{- $program -}} })
          for: 5m
          labels:
            severity: critical
            mainstay_controller: {{ .name }}
          annotations:
            summary: No replica of {{ $name }} has been the leader for 5 minutes, so its objects are not reconciled.
        - alert: MainstayReconcileErrors
          expr: |
            sum(rate(controller_runtime_reconcile_errors_total{ {{- $kind -}} }[5m]))
              / sum(rate(controller_runtime_reconcile_total{ {{- $kind -}} }[5m])) > 0.1
          for: 15m
          labels:
            severity: warning
            mainstay_controller: {{ .name }}
          annotations:
            summary: More than one in ten reconciles of {{ $name }} has failed for 15 minutes.
        - alert: MainstayReconcilePanicsOrTimeouts
          expr: |
            sum(increase(controller_runtime_reconcile_panics_total{ {{- $kind -}} }[15m])) > 0
              or sum(increase(controller_runtime_reconcile_timeouts_total{ {{- $kind -}} }[15m])) > 0
          labels:
            severity: warning
            mainstay_controller: {{ .name }}
          annotations:
            summary: A reconcile of {{ $name }} panicked or timed out in the last 15 minutes.
        - alert: MainstayWatchSilent
          expr: |
            max by (resource) (watch_last_event_age_seconds
              and on (instance) leader_election_master_status{ {{- $program -}} }) > 120
          for: 2m
          labels:
            severity: warning
            mainstay_controller: {{ .name }}
          annotations:
            summary: The watch of {{ "{{ $labels.resource }}" }} by {{ $name }} has been silent for two minutes; it works with an old cache.
        - alert: MainstayQueueSlow
          expr: |
            histogram_quantile(0.99, sum by (le) (
              rate(workqueue_queue_duration_seconds_bucket{ {{- $kind -}} }[10m]))) > 30
          for: 15m
          labels:
            severity: warning
            mainstay_controller: {{ .name }}
          annotations:
            summary: For 15 minutes objects of {{ $name }} have waited more than 30 seconds in the queue.
        # A full quota and an invalid template are for the object's owner, who sees them in its status.
        - alert: MainstayWriteFailures
          expr: |
            sum by (operation, reason) (
              rate({{ $own }}_write_failures_total{reason!~"QuotaExceeded|Invalid.*"}[10m])) > 0
          for: 15m
          labels:
            severity: warning
            mainstay_controller: {{ .name }}
          annotations:
            summary: {{ printf "Writes of %s have failed for 15 minutes: {{ $labels.operation }}, {{ $labels.reason }}." $name | quote }}
        {{- if .webhook }}
        {{- $webhook := printf "webhook=%q" .webhook }}
        # Without any certificate this is minus infinity. A third is left when a new one is made.
        - alert: MainstayWebhookCertificateEnds
          expr: |
            min((mainstay_webhook_certificate_not_after_timestamp_seconds{ {{- $webhook -}} } - time())
              / (mainstay_webhook_certificate_not_after_timestamp_seconds{ {{- $webhook -}} }
                - mainstay_webhook_certificate_not_before_timestamp_seconds{ {{- $webhook -}} })) < 0.2
          for: 15m
          labels:
            severity: warning
            mainstay_controller: {{ .name }}
          annotations:
            summary: The certificate of the webhook of {{ $name }} expires soon, or there is none; without it the API server refuses the objects that the webhook checks.
        {{- end }}
        {{- with .alerts }}
        {{- include . $ | nindent 8 }}
        {{- end }}
{{- end }}
{{- end -}}

{{/*
What is wrong with groups. The series name none: kubectl get replicagroups does.
*/}}
{{- define "mainstay.replicationAlerts" -}}
- alert: MainstayRolloutFailed
  expr: max by (reason) (mainstay_replication_groups_with_failed_rollout{reason!="Aborted"}) > 0
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "The rollouts of {{ $value }} ReplicaGroups have failed: {{ $labels.reason }}. They are not tried again until the template changes." | quote }}
# What a rollout, a pause or a deletion in progress says, and what the alert above says, is no fault.
- alert: MainstayGroupNotReady
  expr: |
    max by (reason) (mainstay_replication_groups_not_ready{reason!~"RollingOut|RollingBack|StepPaused|Paused|Deleting|ProgressDeadlineExceeded|CrashLoop|ImagePullFailed|ConfigError|Unschedulable|Aborted"}) > 0
  for: 15m
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For 15 minutes {{ $value }} ReplicaGroups have not been ready: {{ $labels.reason }}." | quote }}
{{- end -}}

{{/*
What is wrong with pools. The series name none: kubectl get endpointpools does.
*/}}
{{- define "mainstay.endpointsAlerts" -}}
- alert: MainstayPoolServesNothing
  # Of all reasons together: a pool that goes from one to the other has no endpoint all the same.
  expr: max(sum without (reason) (mainstay_endpoints_pools_not_ready{reason!~"NoMembers|ServiceTaken"})) > 0
  for: 10m
  labels:
    severity: critical
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For 10 minutes {{ $value }} EndpointPools have had no endpoint that gets traffic." | quote }}
- alert: MainstayPoolUnused
  expr: max by (reason) (mainstay_endpoints_pools_not_ready{reason=~"NoMembers|ServiceTaken"}) > 0
  for: 1h
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For an hour {{ $value }} EndpointPools have had nothing to serve: {{ $labels.reason }}." | quote }}
- alert: MainstayPoolInPanic
  expr: max(mainstay_endpoints_pools_in_panic) > 0
  for: 10m
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For 10 minutes {{ $value }} EndpointPools have had so few healthy members that failing ones are used." | quote }}
- alert: MainstayPoolFailedOver
  expr: max(mainstay_endpoints_pools_failed_over) > 0
  for: 1h
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For an hour {{ $value }} EndpointPools have not used their best tier." | quote }}
- alert: MainstayChecksLate
  expr: |
    histogram_quantile(0.99, sum by (le) (
      rate(mainstay_endpoints_check_delay_seconds_bucket[10m]))) > 2
  for: 15m
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: Checks of {{ include "mainstay.controllerName" . }} have begun more than 2 seconds late for 15 minutes, so failures are noticed late.
{{- end -}}

{{/*
What is wrong with nodes. kubectl get nodehealthpolicies names them.
*/}}
{{- define "mainstay.nodeHealthAlerts" -}}
- alert: MainstayNodeBreakerOpen
  expr: max by (policy, zone) (mainstay_node_health_breaker_open) > 0
  for: 1m
  labels:
    severity: critical
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "The breaker of policy {{ $labels.policy }}, zone {{ $labels.zone }}, is open: too many nodes are unhealthy at once, so no new actions are taken." | quote }}
- alert: MainstayNodeUnhealthy
  expr: sum by (policy) (max by (policy, state) (mainstay_node_health_nodes{state=~"Waiting|Acting"})) > 0
  for: 15m
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For 15 minutes {{ $value }} nodes of policy {{ $labels.policy }} have been unhealthy." | quote }}
- alert: MainstayNodesUnjudged
  expr: max by (policy) (mainstay_node_health_nodes{state="Unjudged"}) > 0
  for: 15m
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "{{ $value }} nodes renew their Leases too rarely for unreachableAfter of policy {{ $labels.policy }}, so missing renewals are not detected." | quote }}
- alert: MainstayNodeHealthBlind
  expr: sum(increase(mainstay_node_health_blind_total[15m])) > 3
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ printf "The API server did not answer %s more than three times in 15 minutes; each time the timers of all nodes restart." (include "mainstay.controllerName" .) | quote }}
{{- end -}}

{{/*
What stops configuration from reaching its workloads. kubectl get configrollouts names the rollouts.
*/}}
{{- define "mainstay.configRolloutAlerts" -}}
- alert: MainstayConfigRolloutFailed
  expr: |
    sum(max by (reason) (mainstay_config_rollout_rollouts{
      reason=~"Aborted|DeadlineExceeded|MoreRestarts|ProgressDeadlineExceeded|RollingBack"})) > 0
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "The newest revision of {{ $value }} ConfigRollouts has failed at its gates or was aborted; it is not tried again until a source changes." | quote }}
- alert: MainstayConfigRolloutStuck
  expr: |
    sum(max by (reason) (mainstay_config_rollout_rollouts{
      reason=~"FieldManagerConflict|KeyMissing|ScaledToZero|SourceMissing|SourceTooLarge|StageEmpty|TargetMissing|TargetOnDelete|TargetPartition|TargetPaused|TargetStepPaused|TargetUnreadable"})) > 0
  for: 15m
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For 15 minutes {{ $value }} ConfigRollouts have waited for a source, a target, or another manager of a field." | quote }}
- alert: MainstayConfigReverted
  expr: sum(increase(mainstay_config_rollout_reverts_total[1h])) > 3
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: Another field manager keeps reverting changes of {{ include "mainstay.controllerName" . }}; each time pods are recreated.
{{- end -}}

{{/*
What stops accounts and tokens from reaching namespaces. kubectl get accountpolicies has the details.
*/}}
{{- define "mainstay.accountsAlerts" -}}
- alert: MainstayTokenEndsSoon
  expr: min by (policy) (mainstay_accounts_soonest_expiry_seconds) < 90
  for: 1m
  labels:
    severity: critical
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "A token of AccountPolicy {{ $labels.policy }} expires in {{ $value }} seconds and has not been renewed." | quote }}
- alert: MainstayNamespacesFailing
  expr: max by (policy) (mainstay_accounts_namespaces{state="failing"}) > 0
  for: 15m
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: {{ "For 15 minutes {{ $value }} namespaces have lacked an object of AccountPolicy {{ $labels.policy }}." | quote }}
- alert: MainstayAccountDrift
  expr: sum(increase(mainstay_accounts_drift_repairs_total[1h])) > 20
  labels:
    severity: warning
    mainstay_controller: {{ .name }}
  annotations:
    summary: Objects of {{ include "mainstay.controllerName" . }} are changed by others again and again; each time it reverts the change.
{{- end -}}
