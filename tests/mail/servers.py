"""Postfix, Exim and OpenSMTPD: their configurations."""

import os
import re
import subprocess
from pathlib import Path

from server import HERE, PASSWORD, PATIENCE_SECONDS, USER, PackagedServer


class Postfix(PackagedServer):
    name = "Postfix"
    accounts = "postfix:x:30001:30001::/var/spool/postfix:/usr/sbin/nologin\n"
    groups = "postfix:x:30001:\npostdrop:x:30002:\n"

    program = ("/usr/sbin/postfix", "-c", "/etc/postfix", "start-fg")

    def configure(self):
        secure = "smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_client_restrictions=permit_sasl_authenticated,reject"
        self.write("etc/postfix/master.cf", f"""
127.0.0.1:{self.plain} inet n - n - - smtpd -o smtputf8_enable=no
127.0.0.1:{self.starttls} inet n - n - - {secure} -o smtpd_tls_security_level=encrypt
127.0.0.1:{self.implicit} inet n - n - - {secure} -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
""".lstrip())
        self.write("etc/postfix/main.cf", f"""
compatibility_level = 3.6
queue_directory = /var/spool/postfix
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
data_directory = /var/lib/postfix
meta_directory = /etc/postfix
shlib_directory = /usr/lib/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = /dev/stdout
myhostname = mail.example.net
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:inbox/
virtual_mailbox_base = {self.inbox().parent}
virtual_minimum_uid = 100
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:{self.policy.port}
smtpd_end_of_data_restrictions = check_policy_service inet:127.0.0.1:{self.policy.port}
smtpd_helo_required = yes
smtpd_helo_restrictions = reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname
smtpd_tls_cert_file = {self.folder}/tls.crt
smtpd_tls_key_file = {self.folder}/tls.key
smtpd_tls_auth_only = yes
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = mail.example.net
cyrus_sasl_config_path = /etc/postfix/sasl
# As short as it may be: it says 421 to whoever keeps a connection without using it.
smtpd_timeout = 3s
""")
        self.write("etc/postfix/dynamicmaps.cf", "")
        sasl = f"{self.folder}/sasldb"
        self.write("etc/postfix/sasl/smtpd.conf",
                   f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {sasl}\n")
        self.output("saslpasswd2", "-p", "-c", "-f", sasl, "-u", "mail.example.net", USER, input=PASSWORD)
        Path(sasl).chmod(0o644)
        data = self.overlay / "var/lib/postfix"
        data.mkdir(parents=True)
        os.chown(data, 30001, 30001)

    def version(self) -> str:
        return self.output("postconf", "-h", "mail_version").strip()


class Exim(PackagedServer):
    name = "Exim"
    accounts = "Debian-exim:x:30003:30003::/var/spool/exim4:/usr/sbin/nologin\n"
    groups = "Debian-exim:x:30003:\n"
    # It reads the key when it has dropped its rights.
    key_mode = 0o644
    program = ("/usr/sbin/exim4", "-bdf", "-q1m")

    def configure(self):
        def asked(stage: str, recipient: str) -> str:
            request = f"protocol_state={stage}\\nrecipient={recipient}\\n\\n"
            return f"${{readsocket{{inet:127.0.0.1:{self.policy.port}}}{{{request}}}{{90s}}{{ }}}}"

        with_tls = f"${{if eq{{$received_port}}{{{self.plain}}}{{}}{{*}}}}"
        self.write("etc/exim4/exim4.conf", f"""
primary_hostname = mail.example.net
spool_directory = /var/spool/exim4
log_file_path = {self.folder}/exim-%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.plain} : {self.starttls} : {self.implicit}
tls_on_connect_ports = {self.implicit}
tls_advertise_hosts = {with_tls}
tls_certificate = {self.folder}/tls.crt
tls_privatekey = {self.folder}/tls.key
auth_advertise_hosts = ${{if def:tls_in_cipher{{*}}}}
smtputf8_advertise_hosts = {with_tls}
smtp_receive_timeout = 3s
acl_smtp_rcpt = recipient
acl_smtp_data = content
begin acl
recipient:
  deny condition = ${{if and{{{{!eq{{$received_port}}{{{self.plain}}}}}{{!def:authenticated_id}}}}}}
       message = 530 5.7.0 authentication required
  warn set acl_m_to = $local_part@$domain
       set acl_m_answer = {asked("RCPT", "$acl_m_to")}
  defer condition = ${{if match{{$acl_m_answer}}{{action=4}}}}
        message = 450 4.7.1 come back later
  deny condition = ${{if match{{$acl_m_answer}}{{action=5}}}}
       message = 550 5.1.1 no such mailbox
  accept
content:
  warn set acl_m_answer = {asked("END-OF-MESSAGE", "$acl_m_to")}
  accept
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = {self.inbox()}
  maildir_format
  user = nobody
  group = nogroup
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
""")
        self.folder.chmod(0o777)

    def version(self) -> str:
        return re.search(r"Exim version (\S+)", self.output("exim4", "-bV"))[1]


class OpenSmtpd(PackagedServer):
    name = "OpenSMTPD"
    smtputf8 = False
    accounts = (
        "opensmtpd:x:30004:30004::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"
        "opensmtpq:x:30005:30005::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"
    )
    groups = "opensmtpd:x:30004:\nopensmtpq:x:30005:\n"
    program = ("/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf")

    def configure(self):
        for script in ("policy.py", "opensmtpd_filter.py"):
            self.folder.joinpath(script).write_text(HERE.joinpath(script).read_text())
        done = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True)
        self.write("etc/credentials", f"{USER} {done.stdout}")
        secure = "pki localhost auth <credentials> filter policy"
        self.write("etc/smtpd.conf", f"""
pki localhost cert "{self.folder}/tls.crt"
pki localhost key "{self.folder}/tls.key"
table credentials file:/etc/credentials
table everybody {{ "@" = "nobody" }}
filter policy proc-exec "/usr/bin/env PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 {self.folder}/opensmtpd_filter.py {self.policy.port}"
listen on 127.0.0.1 port {self.plain} hostname mail.example.net filter policy
listen on 127.0.0.1 port {self.starttls} hostname mail.example.net tls-require {secure}
listen on 127.0.0.1 port {self.implicit} hostname mail.example.net smtps {secure}
action deliver maildir "{self.inbox()}" virtual <everybody>
match from any for any action deliver
""")

    def version(self) -> str:
        done = subprocess.run(self.command("/usr/sbin/smtpd", "-h"), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return re.search(r"OpenSMTPD (\S+)", done.stdout + done.stderr)[1]
