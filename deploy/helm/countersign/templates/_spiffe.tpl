{{/* A sidecar: the service starts once the files are there. */}}
{{- define "countersign.spiffeHelper" -}}
- name: spiffe-helper
  image: {{ .Values.spiffeHelper.image }}
  args: [-config, /etc/spiffe-helper/helper.conf]
  restartPolicy: Always
  startupProbe:
    httpGet:
      port: 8081
      path: /ready
    periodSeconds: 1
    failureThreshold: 120
  livenessProbe:
    httpGet:
      port: 8081
      path: /live
  volumeMounts:
    - name: tls
      mountPath: /etc/countersign/tls
    - name: workload-api
      mountPath: /run/spiffe
      readOnly: true
    - name: spiffe-helper
      mountPath: /etc/spiffe-helper
      readOnly: true
  resources:
    requests:
      cpu: 10m
      memory: 32Mi
    limits:
      memory: 64Mi
  securityContext: {{- include "countersign.containerSecurity" . | nindent 4 }}
{{- end }}
