{{- define "countersign.labels" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/part-of: countersign
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "countersign.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* "true" where the process itself speaks TLS. */}}
{{- define "countersign.tls" -}}
{{- if has .Values.mode (list "tls" "spiffe") }}true{{ end -}}
{{- end }}

{{/* The variables of the mode, with those of `config` over them. */}}
{{- define "countersign.config" -}}
{{- $config := dict
      "COUNTERSIGN_GRPC_ADDR" "0.0.0.0:50051"
      "COUNTERSIGN_HTTP_ADDR" "0.0.0.0:8080"
      "COUNTERSIGN_LOG_FORMAT" "json"
      "COUNTERSIGN_MAX_CONNECTIONS" "1600" }}
{{- if eq .Values.mode "development" }}
{{- $_ := set $config "COUNTERSIGN_PROFILE" "development" }}
{{- else }}
{{- $config = merge $config (dict
      "COUNTERSIGN_PROFILE" "production"
      "COUNTERSIGN_MASTER_KEYS_FILE" "/etc/countersign/master-keys/master_keys"
      "COUNTERSIGN_ISSUER" "https://auth.example.com"
      "COUNTERSIGN_AUDIENCES" "countersign"
      "COUNTERSIGN_DATABASE_POOL_SIZE" "8"
      "COUNTERSIGN_DATABASE_START_TIMEOUT" "5m"
      "COUNTERSIGN_HASHING_WORKERS" "2"
      "COUNTERSIGN_DRAIN_TIMEOUT" "20s"
      "COUNTERSIGN_TRUSTED_PROXIES" "none"
      "COUNTERSIGN_SMTP_URL" "none"
      "COUNTERSIGN_LOG" "info"
      "COUNTERSIGN_TLS" "terminated") }}
{{- end }}
{{- if eq .Values.mode "mesh" }}
{{- $_ := set $config "COUNTERSIGN_MAX_CONNECTIONS_PER_PEER" "1000000" }}
{{- end }}
{{- if include "countersign.tls" . }}
{{- $config = merge (dict
      "COUNTERSIGN_TLS" "on"
      "COUNTERSIGN_TLS_CERT_FILE" "/etc/countersign/tls/tls.crt"
      "COUNTERSIGN_TLS_KEY_FILE" "/etc/countersign/tls/tls.key") $config }}
{{- end }}
{{- if eq .Values.mode "spiffe" }}
{{- $config = merge (dict
      "COUNTERSIGN_TLS_CLIENT_CA_FILE" "/etc/countersign/tls/bundle.crt"
      "COUNTERSIGN_TLS_CLIENT_AUTH" "required") $config }}
{{- end }}
{{- if .Values.trustedIssuers }}
{{- $_ := set $config "COUNTERSIGN_TRUSTED_ISSUERS_FILE" "/etc/countersign/trusted-issuers/trusted-issuers.toml" }}
{{- end }}
{{- range $name, $value := merge (deepCopy .Values.config) $config }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{/* The kubelet's gRPC probe cannot speak TLS; /healthz answers the same question. */}}
{{- define "countersign.probe" -}}
{{- if include "countersign.tls" . }}
httpGet:
  scheme: HTTPS
  port: http
  path: /healthz
{{- else }}
grpc:
  port: 50051
{{- end }}
{{- end }}

{{- define "countersign.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "countersign.dns" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
    - ipBlock:
        cidr: {{ .Values.networkPolicy.nodeLocalDNS }}
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}
