//! The whole journey of second factors: an app, a challenged login, a recovery code, a passkey, a step-up, and the removal of
//! both; the owner hears of it by mail, and the audit trail shows all of it.

use std::{collections::BTreeMap, time::Duration};

use countersign::grpc::pb::{FactorKind, TokenPair};
use serde_json::Value;

use crate::{
    audit::assert_valid,
    passkeys::{add_passkey, again, begin_login, proof},
    support::{
        TestDatabase, TestServer,
        audit_events::{exported, kinds},
        eventually,
        factors::{STEP, recovery, totp},
        mailbox::{all_sent, mail, mails},
        on_both_databases,
        passkey::TestAuthenticator,
        reason,
    },
};

const ADA: &str = "ada@example.org";
const REFUSED: &str = "SECOND_FACTOR_INVALID";
const ADDED: &str = "A second factor was added to your account";
const REMOVED: &str = "A second factor was removed from your account";

/// How often each kind of event was exported, and for how many wrong proofs the events stand.
async fn audited(database: &TestDatabase) -> (BTreeMap<String, usize>, u64) {
    let events = exported(database, None).await;
    let mut counts = BTreeMap::new();
    for kind in kinds(&events) {
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    for event in &events {
        assert_valid(event);
    }
    let wrong = events
        .iter()
        .filter_map(|event| event["details"]["count"].as_u64());
    (counts, wrong.sum())
}

on_both_databases! {
    async fn the_life_of_second_factors_is_mailed_to_their_owner_and_audited(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let strength = async |tokens: &TokenPair| server.validate(&tokens.access_token).await.unwrap().acr;
        let phone = server.signed_in(ADA).await;
        assert_eq!(strength(&phone).await, "urn:countersign:acr:1");
        let app = server.enroll(&phone.access_token).await;
        mail(&database, ADA, ADDED, 1).await;
        server.clock.advance(Duration::from_secs(STEP));

        // A login by the app, after a wrong code.
        let challenge = server.challenged(ADA).await;
        assert_eq!(challenge.factor_kinds, [FactorKind::Totp as i32]);
        let wrong = server.complete(&challenge, totp(app.wrong_code(&server))).await;
        assert_eq!(reason(wrong), REFUSED);
        let right = server.complete(&challenge, totp(app.code(&server))).await.unwrap();
        let laptop = right.tokens.unwrap();
        assert_eq!(strength(&laptop).await, "urn:countersign:acr:2");

        // One by a recovery code, which is good once.
        let code = &app.recovery_codes[0];
        let challenge = server.challenged(ADA).await;
        let by_code = server.complete(&challenge, recovery(code)).await.unwrap().tokens.unwrap();
        assert_eq!(strength(&by_code).await, "urn:countersign:acr:2");
        let challenge = server.challenged(ADA).await;
        assert_eq!(reason(server.complete(&challenge, recovery(code)).await), REFUSED);

        let mut authenticator = TestAuthenticator::new();
        let laptop = add_passkey(&server, &laptop, &mut authenticator, "Key").await;
        mail(&database, ADA, ADDED, 2).await;
        let listed = server.factors(&laptop.access_token).await.unwrap();
        assert_eq!(listed.len(), 2);
        let passkey = listed.into_iter().find(|factor| factor.kind() == FactorKind::Passkey).unwrap();

        // The authentication is too old for a change: a step-up by the passkey.
        server.clock.advance(Duration::from_secs(700));
        let stale = server.remove_factor(&laptop.access_token, &app.factor.factor_id).await;
        assert_eq!(reason(stale), "STEP_UP_REQUIRED");
        let begun = begin_login(&server, "").await;
        let response = authenticator.get(&begun.request_options_json);
        let token = &begun.challenge_token;
        let laptop = server.reauthenticate(&laptop.access_token, token, again(&response)).await.unwrap();
        assert_eq!(strength(&laptop).await, "urn:countersign:acr:phr");

        server.remove_factor(&laptop.access_token, &app.factor.factor_id).await.unwrap();
        mail(&database, ADA, REMOVED, 1).await;
        for ended in [&phone, &by_code] {
            assert_eq!(reason(server.validate(&ended.access_token).await), "TOKEN_REVOKED");
        }
        let challenge = server.challenged(ADA).await;
        assert_eq!(challenge.factor_kinds, [FactorKind::Passkey as i32]);
        assert_eq!(reason(server.complete(&challenge, totp(app.code(&server))).await), REFUSED);
        let response = authenticator.get(&challenge.request_options_json);
        server.complete(&challenge, proof(&response)).await.unwrap();

        server.remove_factor(&laptop.access_token, &passkey.factor_id).await.unwrap();
        mail(&database, ADA, REMOVED, 2).await;
        server.login(ADA).await.expect("the password is enough again");

        all_sent(&database).await;
        // Two of each, and one about the first login without the device token of an earlier one.
        let subjects: Vec<_> = mails(&database).into_iter().map(|mail| mail.subject).collect();
        assert_eq!(subjects.len(), 5, "{subjects:?}");
        eventually("the refusals are written", async || audited(&database).await.1 == 3).await;
        let (events, _) = audited(&database).await;
        let expected = [
            ("user_registered", 1),
            ("logged_in", 5),
            ("factor_added", 2),
            ("recovery_code_used", 1),
            ("reauthenticated", 1),
            ("factor_removed", 2),
        ];
        for (kind, count) in expected {
            assert_eq!(events.get(kind), Some(&count), "{kind}: {events:?}");
        }
        assert_eq!(events.len(), expected.len() + 1, "and second_factor_failed: {events:?}");
        let text = Value::from(exported(&database, None).await).to_string();
        assert!(!text.contains(ADA) && !text.contains(code.as_str()), "{text}");
    }
}
