{{- define "audit.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "audit.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "audit.labels" -}}
{{ include "audit.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "audit.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "audit.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "audit.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What a pod of ours may do: nothing. */}}
{{- define "audit.podSecurity" -}}
automountServiceAccountToken: false
{{- /* Kubernetes would name variables after Services, and those of one called "audit" begin with AUDIT_ */}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "audit.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The URL and password of a database, each in a file; the argument is .Values.database or .Values.migration. */}}
{{- define "audit.databaseVariables" -}}
- {name: AUDIT_DATABASE_URL_FILE, value: /etc/integration-audit/database/{{ .urlKey }}}
{{- if .passwordKey }}
- {name: AUDIT_DATABASE_PASSWORD_FILE, value: /etc/integration-audit/database/{{ .passwordKey }}}
{{- end }}
{{- end }}

{{/* Fails where an address has a port that the network policy lets nobody reach: a cut connection tells no worker why. */}}
{{- define "audit.letThrough" -}}
{{- $authority := regexReplaceAll "^[A-Za-z_]+://([^/?#]*).*$" (trim .address) "${1}" }}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" | default .otherwise }}
{{- if not (has $port (toStrings .ports)) }}
{{- fail (printf "%s has port %s, which is not among networkPolicy.%s.ports (%s): add it there" .what $port .way (join ", " .ports)) }}
{{- end }}
{{- end }}

{{/* What is mounted beside it, whichever pod it is; the argument is the chart's root and its "database". As JSON. */}}
{{- define "audit.files" -}}
{{- dict
  "kafka" (dict "secret" .root.Values.kafka.security.secretName)
  "database" (dict "secret" .database.secretName)
  "registry" (dict "secret" .root.Values.registry.secretName)
  "schemas" (dict "configMap" .root.Values.schemas.configMapName) | toJson }}
{{- end }}

{{- define "audit.mounts" }}
{{- range $name, $source := . }}
{{- range $kind, $from := $source }}
{{- if $from }}
- {name: {{ $name }}, mountPath: /etc/integration-audit/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audit.volumes" }}
{{- range $name, $source := . }}
{{- range $kind, $from := $source }}
{{- if $from }}
- name: {{ $name }}
  {{ $kind }}: {{ "{" }}{{ ternary "secretName" "name" (eq $kind "secret") }}: {{ $from | quote }}, defaultMode: 0440{{ "}" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "audit.variables" }}
{{- $kafka := .Values.kafka }}
{{- $security := $kafka.security }}
{{- $folder := "/etc/integration-audit/kafka" }}
{{- $texts := dict
  "KAFKA_BOOTSTRAP_SERVERS" $kafka.bootstrapServers
  "KAFKA_TOPIC" $kafka.topic
  "KAFKA_GROUP_ID" $kafka.groupId
  "KAFKA_GROUP_PROTOCOL" $kafka.groupProtocol
  "KAFKA_SECURITY_PROTOCOL" $security.protocol
  "KAFKA_SECURITY_SASL_MECHANISM" $security.saslMechanism
  "KAFKA_SECURITY_SASL_USERNAME" $security.saslUsername
  "KAFKA_SECURITY_OAUTH_TOKEN_URL" $security.oauthTokenUrl
  "KAFKA_SECURITY_OAUTH_CLIENT_ID" $security.oauthClientId
  "KAFKA_SECURITY_OAUTH_SCOPE" $security.oauthScope
  "SCHEMA_REGISTRY_URL" .Values.registry.url
  "SCHEMA_REGISTRY_USERNAME" .Values.registry.username
  "METRICS_PORT" (.Values.port | toString)
  "SHUTDOWN_GRACE" (printf "%ds" (int .Values.shutdownGraceSeconds)) }}
{{- range $variable, $key := dict
  "KAFKA_SECURITY_CA_FILE" $security.caKey
  "KAFKA_SECURITY_CERTIFICATE_FILE" $security.certificateKey
  "KAFKA_SECURITY_KEY_FILE" $security.keyKey
  "KAFKA_SECURITY_KEY_PASSWORD_FILE" $security.keyPasswordKey
  "KAFKA_SECURITY_SASL_PASSWORD_FILE" $security.saslPasswordKey
  "KAFKA_SECURITY_OAUTH_CLIENT_SECRET_FILE" $security.oauthClientSecretKey }}
{{- if $key }}{{ $_ := set $texts $variable (printf "%s/%s" $folder $key) }}{{ end }}
{{- end }}
{{- range $variable, $key := dict
  "SCHEMA_REGISTRY_PASSWORD_FILE" .Values.registry.passwordKey
  "SCHEMA_REGISTRY_TOKEN_FILE" .Values.registry.tokenKey
  "SCHEMA_REGISTRY_CA_FILE" .Values.registry.caKey
  "SCHEMA_REGISTRY_CERTIFICATE_FILE" .Values.registry.certificateKey
  "SCHEMA_REGISTRY_KEY_FILE" .Values.registry.keyKey
  "SCHEMA_REGISTRY_KEY_PASSWORD_FILE" .Values.registry.keyPasswordKey }}
{{- if $key }}{{ $_ := set $texts $variable (printf "/etc/integration-audit/registry/%s" $key) }}{{ end }}
{{- end }}
{{- if .Values.schemas.configMapName }}{{ $_ := set $texts "SCHEMA_DIR" "/etc/integration-audit/schemas" }}{{ end }}
{{- range $name, $text := $texts }}
{{- if $text }}
{{- if hasKey $.Values.settings (printf "AUDIT_%s" $name) }}{{ fail (printf "settings: AUDIT_%s has a value of its own in this chart" $name) }}{{ end }}
- {name: AUDIT_{{ $name }}, value: {{ $text | quote }}}
{{- end }}
{{- end }}
{{- range $name, $text := .Values.settings }}
- {name: {{ $name }}, value: {{ $text | toString | quote }}}
{{- end }}
{{- end }}
