{{/* What the chart knows of the services; tests hold it to the settings of the code. */}}
{{- define "winnow.services" -}}
gateway: {port: 8080, calls: [orchestrator, audit], secrets: [], optional: [rate_store], database: false}
orchestrator: {port: 50051, calls: [ingestor, moderator, audit], secrets: [sealing_key], optional: [sealing_keys_accepted, event_transport_url, rate_store], database: true}
ingestor: {port: 50052, calls: [], secrets: [sealing_key, fingerprint_key], optional: [sealing_keys_accepted], database: false}
moderator: {port: 50053, calls: [], secrets: [sealing_key], optional: [sealing_keys_accepted, llm_api_key], database: false}
audit: {port: 50054, calls: [], secrets: [audit_signing_key], optional: [rate_store], database: true}
{{- end }}

{{- define "winnow.name" -}}
{{ ternary .Release.Name (printf "%s-winnow" .Release.Name) (contains "winnow" .Release.Name) | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Who the pods of a release are. Takes the root; of one service, with its name added. */}}
{{- define "winnow.selector" -}}
app.kubernetes.io/name: winnow
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "winnow.labels" -}}
{{ include "winnow.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "winnow.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "winnow.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "winnow.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
