#!/usr/bin/env bash
# pyotp 2.12.1 (PyPI): in an otpauth URI of django-otp 1.7.5 (PyPI) it takes the issuer for a part of the account name.
#
# The label of an otpauth URI is issuer, colon and account name; Google's "Key Uri Format" allows the colon as `:` or `%3A` and forbids
# colons within both parts. django-otp escapes the whole label, so its colon is `%3A`. pyotp splits at a literal `:` only: the
# issuer stays in the account name, and the URI that pyotp writes for the same device names the issuer twice, which is what the user's
# authenticator then shows. libpass 1.9.4 (PyPI) and otpauth 9.5.2 (npm) split at both. Who moves enrolled devices from Django by
# their URIs must split the label alone.
#
# Output seen, for the user alice of the issuer Example:
#   django-otp writes   otpauth://totp/Example%3Aalice
#   pyotp reads         issuer Example, account Example:alice
#   pyotp writes        otpauth://totp/Example:Example%3Aalice
#   libpass reads       issuer Example, account alice
#   otpauth reads       issuer Example, account alice
. "$(dirname "$0")/lib.sh"
python_packages pyotp==2.12.1 django-otp==1.7.5 Django==5.2.19 libpass==1.9.4
node_packages otpauth@9.5.2
cat > probe.py <<'EOF'
import django
import pyotp
from django.conf import settings
from passlib.totp import TOTP

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_otp", "django_otp.plugins.otp_totp"],
    OTP_TOTP_ISSUER="Example",
)
django.setup()
from django.contrib.auth.models import User  # noqa: E402  (models need the settings)
from django_otp.plugins.otp_totp.models import TOTPDevice  # noqa: E402

uri = TOTPDevice(user=User(username="alice"), key="00112233445566778899aabbccddeeff00112233").config_url
with open("uri", "w") as file:
    file.write(uri)
print("django-otp writes  ", uri.partition("?")[0])
read = pyotp.parse_uri(uri)
print(f"pyotp reads         issuer {read.issuer}, account {read.name}")
print("pyotp writes       ", read.provisioning_uri().partition("?")[0])
read = TOTP.from_uri(uri)
print(f"libpass reads       issuer {read.issuer}, account {read.label}")
EOF
cat > probe.mjs <<'EOF'
import { readFileSync } from "node:fs";
import { URI } from "otpauth";

const { issuer, label } = URI.parse(readFileSync("uri", "utf8"));
console.log(`otpauth reads       issuer ${issuer}, account ${label}`);
EOF
{ venv/bin/python probe.py; node probe.mjs; } | tee seen
grep -q '^django-otp writes  *otpauth://totp/Example%3Aalice$' seen
grep -q '^pyotp reads  *issuer Example, account Example:alice$' seen
grep -q '^pyotp writes  *otpauth://totp/Example:Example%3Aalice$' seen
grep -q '^libpass reads  *issuer Example, account alice$' seen
grep -q '^otpauth reads  *issuer Example, account alice$' seen
