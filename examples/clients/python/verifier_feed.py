"""Follows the feed of keys and revocations, as docs/verifier-protocol.md says."""

import random
import threading
import time

import grpc
from countersign.auth.v1 import verifier_service_pb2 as pb
from countersign.auth.v1 import verifier_service_pb2_grpc as rpc
from verifier import KEY_FETCH_INTERVAL, Verifier

SILENCE, SNAPSHOT_PATIENCE = 4, 30  # seconds


class WrongCredential(Exception):
    """The server does not let this service watch. It is no outage: somebody must do something."""


def follow(verifier, channel, get_access_token):
    """Follows the feed for ever: resumes after every break, and raises WrongCredential when the server says no twice."""
    delay, refusals = 0.2, 0
    threading.Thread(target=fetch_keys, args=(verifier, channel), daemon=True).start()
    while True:
        try:
            watch(verifier, channel, get_access_token())
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                verifier.cursor = ""
            is_refusal = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
            # An access token that has just expired is renewed.
            refusals = refusals + 1 if is_refusal and not verifier.is_current else int(is_refusal)
            if refusals > 1:
                raise WrongCredential(error.details()) from error
        delay = 0.2 if verifier.is_current else min(delay * 2, 5)
        verifier.is_current = False
        time.sleep(delay * random.uniform(1, 2))


def fetch_keys(verifier, channel):
    while verifier.keys_wanted.wait():
        try:
            verifier.add_jwks(rpc.VerifierServiceStub(channel).GetJwks(pb.GetJwksRequest(), timeout=2).jwks_json)
        except (grpc.RpcError, ValueError, KeyError):
            pass  # Until then the key is not known.
        verifier.keys_asked = time.monotonic()
        time.sleep(KEY_FETCH_INTERVAL)
        verifier.keys_wanted.clear()


def watch(verifier, channel, token):
    """Applies one stream, until it ends."""
    request = pb.WatchRevocationsRequest(cursor=verifier.cursor)
    stream = rpc.VerifierServiceStub(channel).WatchRevocations(request, metadata=[("authorization", f"Bearer {token}")])
    begun, snapshot, is_complete = verifier.cursor, Verifier("", []), False
    silence = threading.Timer(SNAPSHOT_PATIENCE, stream.cancel)
    silence.start()
    try:
        for message in stream:
            silence.cancel()
            match message.WhichOneof("event"):
                case "jwks":
                    tolerate(verifier, lambda: verifier.set_jwks(message.jwks.jwks_json))
                case "revocations":
                    for one in message.revocations.revocations:
                        for target in (verifier, snapshot) if is_complete or begun else (snapshot,):
                            tolerate(verifier, lambda: learn(target, one))
                case "snapshot_complete":
                    if not begun:
                        verifier.sessions, verifier.users = snapshot.sessions, snapshot.users
                    is_complete = verifier.is_current = bool(verifier.keys)
                    if not is_complete:
                        return stream.cancel()
                    verifier.is_ready = True
                case "heartbeat" if is_complete:
                    begun, snapshot = "", Verifier("", [])
                    verifier.cursor, verifier.as_of = message.heartbeat.cursor, message.heartbeat.revocation_as_of
                    verifier.forget_expired(int(time.time() * 1000))
            silence = threading.Timer(SILENCE if is_complete else SNAPSHOT_PATIENCE, stream.cancel)
            silence.start()
    finally:
        silence.cancel()


def learn(target, one):
    end = one.expire_time.ToMilliseconds()
    match one.WhichOneof("subject"):
        case "session_id":
            target.revoke(session_id=one.session_id, expire_ms=end)
        case "user_id" if one.HasField("not_before_time"):
            target.revoke(user_id=one.user_id, not_before_ms=one.not_before_time.ToMilliseconds(), expire_ms=end)
        case _:
            raise ValueError("a subject that is not known")


def tolerate(verifier, apply):
    """What is malformed is left out and counted."""
    try:
        apply()
    except (ValueError, KeyError, TypeError, AttributeError):
        verifier.malformed += 1
