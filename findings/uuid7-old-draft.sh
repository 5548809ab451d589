#!/usr/bin/env bash
# uuid7 0.1.0 (PyPI): its version 7 UUIDs follow an early draft, and every reader of RFC 9562 sees a time near the year 2200.
#
# RFC 9562 (5.7) begins a version 7 UUID with 48 bits of milliseconds since 1970. An early draft began with 36 bits of seconds, and
# the package still writes that layout under the same version number, so no reader can tell the two apart. Its UUIDs sort behind all
# that other libraries will make until then: rows of two services in one table are out of order, and a clean-up by the time inside the
# id never finds them. uuid6 2025.0.1 (PyPI) writes the layout of the RFC.
#
# Output seen:
#   uuid7, made for 2026-01-01   read by RFC 9562 as 2199-05-19
#   uuid6, made today            read by RFC 9562 as today
#   the one made for 2026-01-01 sorts behind the one made today: True
. "$(dirname "$0")/lib.sh"
python_packages uuid7==0.1.0 uuid6==2025.0.1
venv/bin/python - <<'EOF' | tee seen
from datetime import UTC, datetime, timedelta

import uuid6
import uuid_extensions


def date(uuid):
    """The date in the first 48 bits, by RFC 9562 (5.7)."""
    assert uuid.version == 7 and uuid.variant == "specified in RFC 4122"
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=uuid.int >> 80)).date()


made = datetime(2026, 1, 1, tzinfo=UTC)
old = uuid_extensions.uuid7(int(made.timestamp()) * 10**9)
new = uuid6.uuid7()
today = datetime.now(UTC).date()
print(f"uuid7, made for {made.date()}   read by RFC 9562 as {date(old)}")
print(f"uuid6, made today            read by RFC 9562 as {'today' if abs(date(new) - today).days <= 1 else date(new)}")
print(f"the one made for {made.date()} sorts behind the one made today:", old.bytes > new.bytes)
EOF
grep -q '^uuid7, made for 2026-01-01 .* as 2199-05-19$' seen
grep -q '^uuid6, made today .* as today$' seen
grep -q ': True$' seen
