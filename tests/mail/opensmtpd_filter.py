"""A filter of OpenSMTPD (smtpd-filters(7)) that asks the policy.

    opensmtpd_filter.py PORT
"""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from policy import CONTENT, RECIPIENT, ask  # noqa: E402  (beside this file)

PORT = int(sys.argv[1])
recipients = {}
lock = threading.Lock()


def answer(stage: str, session: str, token: str, recipient: str):
    action = ask(PORT, stage, recipient)
    result = "proceed" if action == "DUNNO" else f"reject|{action}"
    with lock:
        print(f"filter-result|{session}|{token}|{result}", flush=True)


for line in sys.stdin:
    fields = line.rstrip("\n").split("|")
    if fields[:2] == ["config", "ready"]:
        for phase in ("rcpt-to", "commit"):
            print(f"register|filter|smtp-in|{phase}")
        print("register|ready", flush=True)
    elif fields[0] == "filter":
        _, _, _, _, phase, session, token, *rest = fields
        if phase == "rcpt-to":
            recipients[session] = rest[0].strip("<>")
        stage = RECIPIENT if phase == "rcpt-to" else CONTENT
        arguments = (stage, session, token, recipients[session])
        threading.Thread(target=answer, args=arguments, daemon=True).start()
