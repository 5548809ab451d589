//! `countersign users create`, `list`, `show` and `delete`.

use std::process::Output;

use crate::support::{
    PASSWORD, TestDatabase, TestServer, eventually,
    mailbox::mail,
    on_both_databases,
    process::{run, run_with_input},
    reason,
};

const ROOT: &str = "root@example.org";
const ADA: &str = "ada@example.org";

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

on_both_databases! {
    async fn the_first_administrator_is_made_by_a_command(database: TestDatabase) {
        let server = TestServer::start_with(&database, &[("COUNTERSIGN_REGISTRATION", "verified")]).await;
        let create = ["users", "create", ROOT, "--role", "admin", "--display-name", "Root"];
        let created = run_with_input(&database, &create, &format!("{PASSWORD}\nanother line\n")).await;
        assert_eq!(code(&created), Some(0), "{created:?}");
        assert!(said(&created).contains("roles=\"admin\"") && !said(&created).contains('@'), "{created:?}");
        // Registration demands a verified address; an operator vouches for this one.
        let root = server.login(ROOT).await.unwrap();
        assert_eq!(server.user_page(&root.access_token, "", 0, "").await.unwrap().users.len(), 1);

        let again = run_with_input(&database, &create, PASSWORD).await;
        assert_eq!((code(&again), complained(&again).as_str()), (Some(1), "countersign: e-mail taken\n"));
        let weak = run_with_input(&database, &["users", "create", ADA], "short\n").await;
        assert_eq!(code(&weak), Some(1));
        assert!(complained(&weak).contains("15 code points"), "{weak:?}");
        let none = run(&database, &[], &["users", "create", ADA]).await;
        assert_eq!(code(&none), Some(1));
        assert!(complained(&none).contains("must not be empty"), "{none:?}");
        let argument = run(&database, &[], &["users", "create", ADA, "--password", PASSWORD]).await;
        assert_eq!(code(&argument), Some(64), "no password is taken from the arguments");
        assert_eq!(database.count("users").await, 1);
    }

    async fn users_are_listed_shown_invited_and_deleted_by_commands(database: TestDatabase) {
        // The commands go by the clock of the machine.
        let server = TestServer::start_on_system_clock(&database, &[]).await;
        server.signed_in_as(ROOT, "admin").await;
        let invited = run(&database, &[], &["users", "create", ADA, "--invite"]).await;
        assert_eq!(code(&invited), Some(0), "{invited:?}");
        mail(&database, ADA, "Your new account", 1).await;
        let listed = run(&database, &[], &["users", "list"]).await;
        assert_eq!(said(&listed).lines().count(), 2, "{listed:?}");
        let filtered = run(&database, &[], &["users", "list", "--filter", "roles:admin"]).await;
        assert_eq!(said(&filtered).lines().count(), 1);
        assert!(said(&filtered).contains(ROOT));
        let bad = run(&database, &[], &["users", "list", "--filter", "roles = x"]).await;
        assert_eq!(code(&bad), Some(1));
        let shown = run(&database, &[], &["users", "show", "Ada@Example.org"]).await;
        assert!(said(&shown).contains("email=ada@example.org") && said(&shown).contains("email_verified=false"), "{shown:?}");

        let eve = server.signed_in("eve@example.org").await;
        let deleted = run(&database, &[], &["users", "delete", "eve@example.org"]).await;
        assert_eq!(code(&deleted), Some(0), "{deleted:?}");
        eventually("the token is revoked", async || server.validate(&eve.access_token).await.is_err()).await;
        assert_eq!(reason(server.login("eve@example.org").await), "INVALID_CREDENTIALS");
        let gone = run(&database, &[], &["users", "show", "eve@example.org"]).await;
        assert_eq!((code(&gone), complained(&gone).as_str()), (Some(1), "countersign: there is no such user\n"));
        let last = run(&database, &[], &["users", "delete", ROOT]).await;
        assert_eq!(code(&last), Some(1));
        assert!(complained(&last).contains("last administrator"), "{last:?}");
        for arguments in [&["users", "create"][..], &["users", "list", "x"], &["users", "delete", "no address"]] {
            assert_eq!(code(&run(&database, &[], arguments).await), Some(64), "{arguments:?}");
        }
        for command in ["create", "list", "show", "delete"] {
            assert_eq!(code(&run(&database, &[], &["users", command, "--help"]).await), Some(0));
        }
    }
}
