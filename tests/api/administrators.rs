//! There is always an administrator: the last one keeps the role, stays enabled and is not deleted, whoever asks and however
//! many ask at once.

use countersign::{
    auth::{AuthError, NewUser, RequestContext, Users},
    clock::Clock,
    domain::{DisplayName, Email, Role, Roles, UserId},
    grpc::pb::{DisableUserRequest, SetUserRolesRequest},
};

use tokio::task::JoinHandle;

use crate::support::{
    Kind, TestDatabase, TestServer, eventually, failure, on_both_databases, operator::bearing,
    reason,
};

const ROOT: &str = "root@example.org";
const OTHER: &str = "other@example.org";

async fn administrator(server: &TestServer, email: &str) -> (UserId, String) {
    let token = server.signed_in_as(email, "admin").await.access_token;
    let valid = server.validate(&token).await.unwrap();
    (valid.user_id.parse().unwrap(), token)
}

/// The administrators who can log in.
async fn count(database: &TestDatabase) -> i64 {
    database
        .count("users WHERE roles = 'admin' AND disabled_at IS NULL")
        .await
}

on_both_databases! {
    async fn the_last_administrator_cannot_be_demoted_disabled_or_deleted(database: TestDatabase) {
        let server = TestServer::start(&database).await;
        let (id, root) = administrator(&server, ROOT).await;
        let user_id = id.to_string();
        let demote = || SetUserRolesRequest { user_id: user_id.clone(), roles: vec!["editor".to_owned()] };
        let disable = || DisableUserRequest { user_id: user_id.clone() };
        for status in [
            server.admin().set_user_roles(bearing(&root, demote())).await.map(drop).unwrap_err(),
            server.admin().disable_user(bearing(&root, disable())).await.map(drop).unwrap_err(),
            server.delete_user(&root, &user_id).await.map(drop).unwrap_err(),
        ] {
            let failure = failure(&status);
            assert_eq!((failure.code, failure.reason.as_str()), (tonic::Code::FailedPrecondition, "LAST_ADMIN"));
        }
        server.validate(&root).await.unwrap();
        assert_eq!(count(&database).await, 1);
        // One who is disabled does not count.
        let (other, _) = administrator(&server, OTHER).await;
        let request = DisableUserRequest { user_id: other.to_string() };
        server.admin().disable_user(bearing(&root, request)).await.unwrap();
        assert_eq!(reason(server.delete_user(&root, &user_id).await), "LAST_ADMIN");
        // Nor is one in the way.
        server.delete_user(&root, &other.to_string()).await.unwrap();
        // Nor does one who has no password yet.
        let invited = NewUser {
            email: Email::parse("email", "invited@example.org").unwrap(),
            display_name: DisplayName::parse("display_name", "").unwrap(),
            roles: Roles::new(vec![Role::parse("admin").unwrap()]),
        };
        server.core.invite_user(invited, &RequestContext::default()).await.unwrap();
        assert_eq!(reason(server.delete_user(&root, &user_id).await), "LAST_ADMIN");
        let (_, third) = administrator(&server, "third@example.org").await;
        server.delete_user(&third, &user_id).await.unwrap();
        assert_eq!(count(&database).await, 2, "the third, and the invited one");
    }

    async fn concurrent_demotions_of_administrators_leave_one(database: TestDatabase, clock: Clock) {
        let server = TestServer::start_at(&database, &[], clock).await;
        let replica = server.replica(&[]).await;
        let context = RequestContext::default();
        let (one, _) = administrator(&server, ROOT).await;
        let (other, _) = administrator(&server, OTHER).await;
        let admin = Roles::new(vec![Role::parse("admin").unwrap()]);
        for round in 0..12 {
            let take = async |users: Users, id| match round % 2 {
                0 => users.set_roles(id, Roles::default(), &context).await.map(drop),
                _ => users.disable_user(id, &context).await.map(drop),
            };
            let (first, second) = tokio::join!(
                take(server.core.users(), one),
                take(replica.core.users(), other),
            );
            let is_refused = |result: &Result<(), AuthError>| matches!(result, Err(AuthError::LastAdmin));
            assert!(is_refused(&first) != is_refused(&second), "{first:?} {second:?}");
            assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
            assert_eq!(count(&database).await, 1);
            for id in [one, other] {
                server.core.users().set_roles(id, admin.clone(), &context).await.unwrap();
                server.core.users().enable_user(id, &context).await.unwrap();
            }
        }
    }
}

/// Both transactions are held up where each has changed its own row and neither has looked for another administrator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_demotions_waits_for_the_first() {
    let database = TestDatabase::create(Kind::Postgres).await;
    let server = TestServer::start(&database).await;
    let replica = server.replica(&[]).await;
    let (one, _) = administrator(&server, ROOT).await;
    let (other, _) = administrator(&server, OTHER).await;
    let demote = |server: &TestServer, id| {
        let users = server.core.users();
        tokio::spawn(async move {
            let context = RequestContext::default();
            users
                .set_roles(id, Roles::default(), &context)
                .await
                .map(drop)
        })
    };
    let held = database.client().await;
    let mut answers = Vec::new();
    eventually("both waited and were answered", async || {
        for id in [one, other] {
            let admin = Roles::new(vec![Role::parse("admin").unwrap()]);
            let context = RequestContext::default();
            server
                .core
                .users()
                .set_roles(id, admin, &context)
                .await
                .unwrap();
        }
        held.batch_execute("BEGIN; UPDATE administrator_guard SET changes = changes")
            .await
            .unwrap();
        let demotions = [demote(&server, one), demote(&replica, other)];
        let mut both_wait = false;
        while !both_wait && !demotions.iter().any(JoinHandle::is_finished) {
            both_wait = database.waiting_for_locks().await == 2;
        }
        held.batch_execute("COMMIT").await.unwrap();
        answers.clear();
        for demotion in demotions {
            answers.push(demotion.await.unwrap());
        }
        // On a busy machine their time may end while they are held up: then nothing has changed.
        let has_ended = |answer: &Result<(), AuthError>| {
            matches!(answer, Err(AuthError::DatabaseUnavailable(_)))
        };
        both_wait && !answers.iter().any(has_ended)
    })
    .await;
    answers.sort_by_key(Result::is_err);
    assert!(
        matches!(answers.as_slice(), [Ok(()), Err(AuthError::LastAdmin)]),
        "{answers:?}"
    );
    assert_eq!(count(&database).await, 1);
}
